// Why: the other half of maps_order.o: the maps that the first half's holds, and one that nothing uses.
#include "skep_bpf.h"
#include "maps_order/inner.h"

struct inner late_inner SEC(".maps"), other_inner SEC(".maps");
struct { __uint(type, 30); __uint(max_entries, 100); __type(value, u32); __uint(map_extra, 4); } unused SEC(".maps");

LICENSE("Dual MIT/GPL");
