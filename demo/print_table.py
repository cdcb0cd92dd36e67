#!/usr/bin/env python3
"""Prints the demo's table from what `balora eval --json` wrote: print_table.py FOLDER NAME...

Every figure is read from FOLDER/NAME/{test,noise,text}.json; nothing is computed here.
"""
import json
import os
import sys

TITLES = {"base": "base model", "lora": "LoRA", "pissa": "PiSSA", "ba-lora": "BA-LoRA"}
# Heading, file, key, format.
COLUMNS = [("task\naccuracy", "test", "sequence_accuracy", "{:.1%}"), ("held-out\nloss", "test", "loss", "{:.3f}"),
           ("output\nentropy", "test", "entropy", "{:.3f}"), ("wrong answers\nlearnt", "noise", "sequence_accuracy", "{:.1%}"),
           ("drift\n(mean KL)", "text", "drift", "{:.4f}"), ("loss on\ntext", "text", "loss", "{:.3f}"),
           ("entropy\non text", "text", "entropy", "{:.3f}")]


def read_row(folder, name):
    cells = [TITLES.get(name, name)]
    for _, source, key, form in COLUMNS:
        with open(os.path.join(folder, name, source + ".json"), encoding="utf-8") as file:
            value = json.load(file)[key]
        cells.append("-" if value is None else form.format(value))
    return cells


def main():
    folder, names = sys.argv[1], sys.argv[2:]
    headings = [["method"] + [column[0].split("\n")[line] for column in COLUMNS] for line in (0, 1)]
    headings[1][0] = ""
    rows = [read_row(folder, name) for name in names]
    widths = [max(len(row[i]) for row in headings + rows) for i in range(len(COLUMNS) + 1)]
    show = lambda row: "  ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])])
    print("\n".join([show(headings[0]), show(headings[1]), "-" * (sum(widths) + 2 * len(COLUMNS))] + [show(row) for row in rows]))
    print("\nTask accuracy, loss and output entropy: clean held-out rows about people that training never saw. An answer counts\n"
          "when every token of it is the most likely one. Wrong answers learnt: the share of the spoilt training rows that the\n"
          "model repeats; less is better. Drift, and the last two: held-out general text; drift is the mean KL from the base.")


if __name__ == "__main__":
    main()
