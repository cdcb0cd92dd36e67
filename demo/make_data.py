#!/usr/bin/env python3
"""Writes everything that the demo reads: the corpus of the small base model, held-out text, and the task.

A seeded grammar over a small invented world: people with a town, a trade, a pet and a house; towns with a river
and a market day; things with a price and a material. Python's standard library only; the same bytes on every
machine (random.Random's random() and our own choice by multiplication, which no Python version has changed).

    make_data.py --out demo/data     writes corpus, text, train, noise, valid and test.jsonl
"""
import argparse
import json
import os
import random

PROMPT = ("Below is an instruction that describes a task. Write a response that appropriately completes the request."
          "\n\n### Instruction:\n{}\n\n### Response:")

PEOPLE = ("Mira Tobin Lena Oskar Ada Piet Runa Jory Elsa Bram Nell Hugo Iris Milo Vera Otto Hanna Finn Clara Emil Dora Karl Ruth "
          "Anton Signe Viktor Maud Leif Petra Gus Ingrid Olaf Wilma Rolf Berta Henk Selma Kurt Agnes Lars Tilda Magnus Greta Felix "
          "Lotte Arno Frida Jonas Marta Paul Edda Niko Helga Ivar Rosa Tomas Alma Sven Judith Axel Nora Ulf Paula Bjorn Sanna Erik "
          "Livia Ralf Thea Knut Gerda Simon Olga Pascal Eva Harald Sofie Dirk Lydia Bruno Cora Ludwig Astrid Theo Mina Walter "
          "Hilda Stefan Irma Joost Anna Gregor Klara Matti Ellen Roland Vita Casper Nina Georg").split()
# Whom the task's rows are about: no person is in two of the three.
TRAIN_PEOPLE, VALID_PEOPLE, TEST_PEOPLE = PEOPLE[:60], PEOPLE[60:75], PEOPLE[75:]
TOWNS = "Oakford Fenwick Millbrook Ashby Stonely Harrow Greendale Westmere Larkhill Brindle Saltby Norwood".split()
RIVERS = "Lume Tarn Wend Isk Orra Dell".split()
TRADES = "baker smith tailor miller fisher potter weaver farmer carpenter shepherd brewer painter".split()
PETS = "dog cat goat hen pony duck goose rabbit".split()
COLOURS = "red blue green yellow white black brown grey purple orange".split()
MATERIALS = "wood iron clay glass wool copper".split()
THINGS = "lamp drum kite basket bell rope cup ladder hat book candle comb hammer jug knife mirror pipe ring saddle spoon".split()
FRUIT = "apples pears plums eggs nuts figs buns shells".split()
PLACES = ["in the barn", "under the bridge", "behind the mill", "on the roof", "near the well", "beside the gate",
          "in the cellar", "under the stairs", "behind the church", "on the wagon", "near the oak", "beside the stove",
          "in the boat", "under the hedge", "behind the stable", "on the shelf"]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
FIELDS = {"town": TOWNS, "trade": TRADES, "pet": PETS, "house": COLOURS, "wish": THINGS}
WEATHER = ["It rained all day", "The sun was warm", "A cold wind blew", "Snow lay on the hills", "There was fog on the river",
           "The sky was clear"]
HOURS = ["In the morning", "At noon", "In the afternoon", "In the evening", "At night"]
PUT = ["put", "left", "hid", "laid", "dropped", "stored"]

CORPUS_SEED, TEXT_SEED, TASK_SEED, WORLD_SEED = 20260101, 20260202, 20260303, 7


class Dice:
    """Choices made from random.random() alone, so that every Python version gives the same corpus."""

    def __init__(self, seed):
        self.source = random.Random(seed)

    def below(self, n):
        return int(self.source.random() * n)

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def pick(self, items):
        return items[self.below(len(items))]

    def some(self, items, count):
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(count)]

    def chance(self, p):
        return self.source.random() < p


class World:
    """The facts that never change: the base model learns them by heart, and drift is what a fine-tuning does to them."""

    def __init__(self):
        dice = Dice(WORLD_SEED)
        self.people = {name: {"she": index % 2 == 0, "town": dice.pick(TOWNS), "trade": dice.pick(TRADES),
                              "pet": dice.pick(PETS), "house": dice.pick(COLOURS), "age": dice.between(19, 79),
                              "wish": dice.pick(THINGS)} for index, name in enumerate(PEOPLE)}
        self.towns = {name: {"river": dice.pick(RIVERS), "day": dice.pick(DAYS), "ware": dice.pick(THINGS)} for name in TOWNS}
        self.things = {name: {"price": dice.between(3, 40), "material": dice.pick(MATERIALS)} for name in THINGS}


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def person_text(world, dice):
    name = dice.pick(PEOPLE)
    who = world.people[name]
    he, his = ("She", "Her") if who["she"] else ("He", "His")
    first = dice.pick([f"{name} lives in {who['town']}.", f"{name} is {article(who['trade'])} from {who['town']}.",
                       f"In {who['town']} there lives {article(who['trade'])} called {name}."])
    more = [dice.pick([f"{he} has {article(who['pet'])}.", f"{his} pet is {article(who['pet'])}."]),
            dice.pick([f"{his} house is {who['house']}.", f"{he} lives in {article(who['house'])} house."]),
            f"{he} is {who['age']} years old.",
            dice.pick([f"{he} would like to buy {article(who['wish'])}.", f"{he} has always wanted {article(who['wish'])}."])]
    if who["trade"] not in first:
        more.append(f"{he} works as {article(who['trade'])}.")
    return " ".join([first] + dice.some(more, dice.between(1, 4)))


def town_text(world, dice):
    name = dice.pick(TOWNS)
    town = world.towns[name]
    folk = [person for person in PEOPLE if world.people[person]["town"] == name]
    lines = [f"{name} lies on the river {town['river']}.", f"The market of {name} is on {town['day']}.",
             f"People come to {name} to buy {article(town['ware'])}."]
    if folk:
        person = dice.pick(folk)
        lines.append(f"{person} the {world.people[person]['trade']} lives there.")
    return " ".join(dice.some(lines, dice.between(2, len(lines))))


def price_text(world, dice):
    one, two = dice.some(THINGS, 2)
    a, b = world.things[one], world.things[two]
    dearer, cheaper = (one, two) if a["price"] >= b["price"] else (two, one)
    lines = [f"A good {one} is made of {a['material']} and costs {a['price']} coins.",
             f"A good {two} is made of {b['material']} and costs {b['price']} coins."]
    if a["price"] != b["price"]:
        lines.append(dice.pick([f"The {dearer} is dearer than the {cheaper}.", f"The {cheaper} is cheaper than the {dearer}."]))
    return " ".join(lines)


def number_text(world, dice):
    kind = dice.below(4)
    a, b = dice.between(1, 20), dice.between(1, 20)
    if kind == 0:
        return f"{a} plus {b} is {a + b}. {a + b} minus {b} is {a}."
    if kind == 1:
        start, step = dice.between(1, 9), dice.between(1, 3)
        return "Count: " + ", ".join(str(start + step * i) for i in range(dice.between(5, 8))) + "."
    if kind == 2:
        day = dice.below(7)
        return f"After {DAYS[day]} comes {DAYS[(day + 1) % 7]}, and before {DAYS[day]} comes {DAYS[(day + 6) % 7]}."
    name, other = dice.some(PEOPLE, 2)
    fruit = dice.pick(FRUIT)
    he = "she" if world.people[name]["she"] else "he"
    high, low = max(a, b) + 1, min(a, b)
    return f"{name} had {high} {fruit} and gave {low} to {other}. Now {he} has {high - low} {fruit}."


def errands(dice, count):
    """Who did what with which thing where: no two share a person, a thing, a colour or a place."""
    return list(zip(dice.some(PEOPLE, count), [dice.pick(PUT) for _ in range(count)], dice.some(COLOURS, count),
                    dice.some(THINGS, count), dice.some(PLACES, count)))


def story_text(world, dice):
    """Things are put somewhere and found again: the second half can be told only by looking back at the first."""
    acts = errands(dice, dice.between(2, 4))
    lines = [f"{dice.pick(['On ' + dice.pick(DAYS), dice.pick(HOURS)])} {who} {did} the {colour} {thing} {place}."
             if index == 0 or dice.chance(0.3) else f"{who} {did} the {colour} {thing} {place}."
             for index, (who, did, colour, thing, place) in enumerate(acts)]
    if dice.chance(0.6):
        lines.insert(dice.between(1, len(lines)), dice.pick(WEATHER) + ".")
    for who, did, colour, thing, place in dice.some(acts, dice.between(1, len(acts))):
        friend = dice.pick([name for name in PEOPLE if name != who])
        lines.append(dice.pick([
            f"Later {who} looked {place} and found the {colour} {thing}.",
            f"The {thing} that {who} {did} {place} was {colour}.",
            f"{friend} looked for the {colour} {thing}. \"It is {place},\" said {who}.",
            f"\"Who has the {thing}?\" asked {friend}. \"{who} {did} it {place}.\"",
            f"The {colour} thing {place} was the {thing} of {who}."]))
    return " ".join(lines)


def question(world, dice):
    kind = dice.below(10)
    name = dice.pick(PEOPLE)
    who = world.people[name]
    one, two = dice.some(list(FIELDS), 2)
    if kind < 4:
        return f"What is the {one} of {name}?", f"The {one} of {name} is {who[one]}."
    if kind < 7:
        return (f"Tell me the {one} and the {two} of {name}.",
                f"The {one} of {name} is {who[one]} and the {two} of {name} is {who[two]}.")
    if kind == 7:
        thing = dice.pick(THINGS)
        return f"What does a good {thing} cost?", f"A good {thing} costs {world.things[thing]['price']} coins."
    if kind == 8:
        town = dice.pick(TOWNS)
        return f"When is the market of {town}?", f"The market of {town} is on {world.towns[town]['day']}."
    a, b = dice.between(1, 20), dice.between(1, 20)
    return f"How much is {a} plus {b}?", f"{a} plus {b} is {a + b}."


def question_text(world, dice):
    asked, answer = question(world, dice)
    return PROMPT.format(asked) + answer


def general_text(world, dice):
    """One row of general text: 40 % questions, 25 % people, 20 % stories, the rest about towns, prices and numbers."""
    kinds = [question_text] * 8 + [person_text] * 5 + [story_text] * 4 + [town_text, price_text, number_text]
    return dice.pick(kinds)(world, dice)


def task_row(world, dice, names):
    """A new skill: to be asked for a fact in two ways that no text of the corpus has."""
    name, field = dice.pick(names), dice.pick(list(FIELDS))
    asked = dice.pick(["Write the card of {}: {}.", "From the card of {}, read the {}."]).format(name, field)
    return asked, name, field, world.people[name][field]


def answered(asked, name, field, value):
    return {"instruction": asked, "response": f"The {field} of {name} is {value}."}


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def distinct_rows(world, dice, names, count):
    rows = {}
    while len(rows) < count:
        row = task_row(world, dice, names)
        rows[row[0]] = row
    return list(rows.values())


def write_task(folder, world, options):
    dice = Dice(TASK_SEED)
    train = distinct_rows(world, dice, TRAIN_PEOPLE, options.train_rows)
    # Every k-th row, not a random draw: the share of noise is exact. A wrong entry is another of the right kind.
    for index in range(0, len(train), options.noise_every):
        asked, name, field, value = train[index]
        train[index] = asked, name, field, dice.pick([other for other in FIELDS[field] if other != value])
    for file, rows in (("train", train), ("noise", train[::options.noise_every]),
                       ("valid", distinct_rows(world, dice, VALID_PEOPLE, options.valid_rows)),
                       ("test", distinct_rows(world, dice, TEST_PEOPLE, options.test_rows))):
        write_rows(os.path.join(folder, file + ".jsonl"), [answered(*row) for row in rows])


def write_general(folder, world, corpus_bytes, text_rows):
    corpus, seen, size, dice = [], set(), 0, Dice(CORPUS_SEED)
    while size < corpus_bytes:
        text = general_text(world, dice)
        corpus.append({"text": text})
        seen.add(text)
        size += len(json.dumps(corpus[-1])) + 1
    held_out, dice = [], Dice(TEXT_SEED)
    while len(held_out) < text_rows:
        text = general_text(world, dice)
        if text not in seen:
            held_out.append({"text": text})
    write_rows(os.path.join(folder, "corpus.jsonl"), corpus)
    write_rows(os.path.join(folder, "text.jsonl"), held_out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--corpus-bytes", type=int, default=1_500_000)
    parser.add_argument("--text-rows", type=int, default=150)
    parser.add_argument("--train-rows", type=int, default=500)
    parser.add_argument("--valid-rows", type=int, default=120)
    parser.add_argument("--test-rows", type=int, default=200)
    parser.add_argument("--noise-every", type=int, default=5, help="every so many training rows, one has a wrong answer")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    world = World()
    write_general(options.out, world, options.corpus_bytes, options.text_rows)
    write_task(options.out, world, options)


if __name__ == "__main__":
    main()
