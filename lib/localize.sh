#!/bin/sh
# Make a static library whose only global symbols are the public ones:
#   localize.sh INTERNAL.a PUBLIC.a SCRATCH_FOLDER
# One relocatable object is linked from every member, then symbols of hidden visibility become local.
set -eu
internal=$1 public=$2 scratch=$3
mkdir -p "$scratch"
ld -r -o "$scratch/balora.o" --whole-archive "$internal"
objcopy --localize-hidden "$scratch/balora.o"
rm -f "$public"
ar rcsD "$public" "$scratch/balora.o"
