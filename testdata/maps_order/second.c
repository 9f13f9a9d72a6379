// Why: the other half of maps_order.o: the maps that the first half's holds, and one that nothing uses.
#include "skep_bpf.h"
#include "maps_order/inner.h"

struct inner late_inner SEC(".maps"), other_inner SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, u32); } unused SEC(".maps");

LICENSE("Dual MIT/GPL");
