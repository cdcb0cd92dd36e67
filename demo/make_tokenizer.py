#!/usr/bin/env python3
"""Learns a byte-level BPE vocabulary from a corpus and writes tokenizer.json as the Hugging Face package reads it.

Python's standard library only. Digits are never merged with one another, so that a number is read digit by digit.

    make_tokenizer.py --corpus demo/data/corpus.jsonl --vocabulary 1024 --out demo/model
"""
import argparse
import collections
import json
import os
import re

END = "<|endoftext|>"
# GPT-2's split pattern restricted to ASCII, which is all that the corpus has; \d alone: one digit a piece.
SPLIT = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?\d| ?[^\sA-Za-z\d]+|\s+(?!\S)|\s+")


def byte_letters():
    """GPT-2's printable letter for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + len(letters) - len(plain))
    return letters


def count_words(path, letters):
    words = collections.Counter()
    with open(path, encoding="utf-8") as file:
        for line in file:
            words.update(SPLIT.findall(json.loads(line)["text"]))
    return {tuple(letters[byte] for byte in word.encode()): count for word, count in words.items()}


def merge_word(word, pair):
    merged, index = [], 0
    while index < len(word):
        if index + 1 < len(word) and (word[index], word[index + 1]) == pair:
            merged.append(word[index] + word[index + 1])
            index += 2
        else:
            merged.append(word[index])
            index += 1
    return tuple(merged)


def learn_merges(words, wanted):
    merges = []
    while len(merges) < wanted:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        # The pair itself breaks ties: the same vocabulary whatever the order of the dictionary.
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {merge_word(word, best): count for word, count in words.items()}
    return merges


def describe(letters, merges):
    tokens = [END] + [letters[byte] for byte in sorted(letters)] + [left + right for left, right in merges]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"id": 0, "content": END, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {token: index for index, token in enumerate(tokens)},
                      "merges": [f"{left} {right}" for left, right in merges]}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--out", required=True, help="the model folder to write tokenizer.json and tokenizer_config.json to")
    options = parser.parse_args()
    letters = byte_letters()
    merges = learn_merges(count_words(options.corpus, letters), options.vocabulary - 1 - len(letters))
    os.makedirs(options.out, exist_ok=True)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END, "model_max_length": 512,
                "clean_up_tokenization_spaces": False}
    for name, value in (("tokenizer.json", describe(letters, merges)), ("tokenizer_config.json", settings)):
        with open(os.path.join(options.out, name), "w", encoding="utf-8", newline="\n") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
