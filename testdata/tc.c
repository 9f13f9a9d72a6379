// Why: the traffic-control section names (old, tcx, action), context writes, direct packet access.
#include "skep_bpf.h"

SEC("tc")
int mark_short(struct __sk_buff *skb)
{
	u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;

	if (data + 14 > end)
		return 2;
	skb->mark = data[12] << 8 | data[13];
	return 0;
}

SEC("classifier")
int classify(struct __sk_buff *skb) { skb->tc_classid = 0x10001; return 0; }

SEC("action")
int act(struct __sk_buff *skb) { skb->cb[0] = skb->hash; return 0; }

SEC("tc/ingress")
int ingress_alias(struct __sk_buff *skb) { return skb->ifindex == 1 ? -1 : 0; }

SEC("tcx/ingress")
int ingress(struct __sk_buff *skb) { return skb->ingress_ifindex ? -1 : 0; }

SEC("tcx/egress")
int egress(struct __sk_buff *skb) { skb->priority = 7; return -1; }

SEC("netkit/primary")
int netkit_primary(struct __sk_buff *skb) { return -1; }

LICENSE("Dual MIT/GPL");
