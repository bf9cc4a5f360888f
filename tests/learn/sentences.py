"""A few dozen sentences in two tasks, and a tokeniser made of their words: nothing is downloaded."""

import numpy as np

from airsim.learn.data.text import TextSource, TextSplit

WEATHER = {
    0: [  # it is fine
        "the sun shines over the quiet harbour",
        "a clear sky and a warm wind today",
        "bright morning light falls on the hills",
        "no cloud hangs over the sea this evening",
        "the snow has melted and the meadow is dry",
        "children play outside in the warm sun",
        "the stars are clear above the quiet village",
        "a warm and bright afternoon in the garden",
        "the wind is soft and the sky is blue",
        "we dry the hay in the sun",
        "the harbour lies in clear light",
        "a blue sky greets the early walkers",
    ],
    1: [  # it is foul
        "rain beats against the cold windows",
        "a grey storm comes in from the sea",
        "fog hides the harbour and the boats",
        "the road is wet and full of mud",
        "hail has broken the glass of the greenhouse",
        "dark clouds gather over the hills",
        "the cold rain has not stopped since noon",
        "thunder rolls and the river rises",
        "wet snow falls on the muddy road",
        "a storm tore the roof from the barn",
        "cold fog creeps through the village",
        "the boats stay in while the storm lasts",
    ],
}
QUESTIONS = {
    0: [  # about a person
        "who painted the ceiling of the chapel",
        "who wrote the letter to the king",
        "which woman first climbed the mountain",
        "who repaired the old clock",
        "which boy won the race",
        "who sings in the choir tonight",
        "who taught the smith his trade",
        "which doctor treated the captain",
    ],
    1: [  # about a place
        "where does the river meet the sea",
        "in which city stands the tall tower",
        "where is the captain buried",
        "where do the storks spend the winter",
        "in which valley was the mine",
        "where can one cross the border",
        "in which country do they grow tea",
        "where was the old clock found",
    ],
    2: [  # about a number
        "how many boats lie in the harbour",
        "how old is the oak by the church",
        "how far is it to the next village",
        "how many steps has the tower",
        "how much does a pound of tea cost",
        "how long did the storm last",
        "how many children sing in the choir",
        "how high is the mountain",
    ],
}


def text_source(name, sentences):
    """Every fourth sentence of a class is for testing."""
    train, test = ([], []), ([], [])
    for label, texts in sentences.items():
        for index, text in enumerate(texts):
            side = test if index % 4 == 3 else train
            side[0].append(text)
            side[1].append(label)
    splits = [TextSplit(tuple(texts), np.array(labels)) for texts, labels in (train, test)]
    return TextSource(name, splits[0], splits[1], len(sentences), f"checksum of {name}")


def both_sources():
    return [text_source("weather", WEATHER), text_source("questions", QUESTIONS)]


def word_tokeniser():
    """A number for every word of the sentences, in alphabetical order after padding and the unknown word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = [text for task in (WEATHER, QUESTIONS) for group in task.values() for text in group]
    words = sorted({word for text in texts for word in text.split()})
    numbers = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokeniser = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokeniser, pad_token="[PAD]", unk_token="[UNK]")
