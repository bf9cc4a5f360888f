"""One base station, several edge servers, one energy budget per device."""
