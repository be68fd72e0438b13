// Device registers in the address space of regions.
//
// Every entry is there from the start, uncached and marked PTE_FOREIGN: a fault is
// always an error, and nobody counts or frees the frames.

#include <errno.h>

#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

static enum fault_result device_fault(struct region *r, uintptr_t va,
                                      unsigned access, uintptr_t rsp)
{
    int level;
    pte_t *e = pt_find(va, &level);
    pte_t v = e != NULL ? pt_get(e) : 0;

    (void)r, (void)rsp;
    // Rights may have been given while a CPU had the old ones cached.
    return pte_present(v) && (pte_prot(v) & access) == access ? FAULT_SERVED
                                                              : FAULT_DENIED;
}

static const char *device_describe(struct region *r, uintptr_t va, char *buf,
                                   size_t size)
{
    (void)va, (void)buf, (void)size;
    return r->name;
}

static const struct region_ops device_ops = {device_fault, device_describe};

static bool is_ram(paddr_t pa, size_t bytes)
{
    for (size_t o = 0; o < bytes; o += PAGE_SIZE) {
        int level;
        pte_t *e = pt_find(ARCH_DIRECT_BASE + pa.raw + o, &level);

        if (e != NULL && pte_present(pt_get(e)))
            return true;
    }
    return false;
}

static int map_all(const struct region *r, paddr_t pa)
{
    pte_t leaf = mm_leaf(r, paddr(0), false) | PTE_UNCACHED | PTE_FOREIGN;

    for (uintptr_t va = r->start; va < r->end; va += PAGE_SIZE) {
        pte_t *e = pt_make(va);

        if (e == NULL)
            return -ENOMEM;
        pt_set(e, leaf | (pa.raw + (va - r->start)));
    }
    return 0;
}

static int map_device_locked(struct vm_call *c)
{
    paddr_t pa = paddr(c->to);
    uintptr_t at = vm_place(c->va, c->bytes);
    struct region *r;

    if (is_ram(pa, c->bytes))
        return -EPERM;
    r = at != 0 ? vm_new_region(at, c->bytes, c->prot, REGION_DEVICE, c->name)
                : NULL;
    if (r == NULL || !vm_charge(vm_cost(r))) {
        if (r != NULL)
            region_free(r);
        return -ENOMEM;
    }
    r->ops = &device_ops;
    vm_insert_free(r);
    c->va = at;
    if (map_all(r, pa) == 0)
        return 0;
    vm_uncharge_later(c, vm_cost(r));
    region_erase(r);
    region_free(r);
    c->flags = 1; // tables are left
    return -ENOMEM;
}

static void map_device_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = map_device_locked(c);
    spin_unlock(&mm_lock);
    if (c->flags)
        vm_drop_range(c->va, c->va + c->bytes);
    vm_given_back(c);
}

int vm_map_device(uintptr_t *va, paddr_t pa, size_t bytes, unsigned prot,
                  const char *name)
{
    struct vm_call c = {
        .va = *va, .to = pa.raw, .bytes = bytes, .prot = prot, .name = name};

    if (vm_check_range(*va, bytes) != 0 || pa.raw % PAGE_SIZE != 0 ||
        pa.raw >= ARCH_DIRECT_SIZE || bytes > ARCH_DIRECT_SIZE - pa.raw)
        return -EINVAL;
    vm_run_charging(map_device_call, &c);
    if (c.result == 0)
        *va = c.va;
    return (int)c.result;
}
