// Why: the samples' form where no names tell it from the others of 28 bytes, but what it says does.
#include "maps_legacy_samples.c"
