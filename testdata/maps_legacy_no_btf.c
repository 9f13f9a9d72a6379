// Why: maps of before BTF in an object without BTF, as they were when it did not exist: lengths alone tell the forms.
#include "maps_legacy.c"
