// Why: tc's form where its length tells it.
#include "tc_legacy.c"
