// Why: an object with a license and nothing else opens, with no programs and no maps.
#include "skep_bpf.h"

LICENSE("Dual MIT/GPL");
