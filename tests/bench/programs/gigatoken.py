"""Counts with gigatoken the tokens of each file that standard input names, and times it."""

import sys
import time

import gigatoken

tokenizer = gigatoken.Tokenizer.from_tiktoken(sys.argv[1], sys.argv[2])
for path in sys.stdin:
    with open(path.strip(), "rb") as file:
        text = file.read()
    start = time.perf_counter_ns()
    count = len(tokenizer.encode(text))
    print(count, time.perf_counter_ns() - start, flush=True)
