// The CPU list from ACPI's MADT: the only table needed.
//
// Tables come from firmware, so every length is checked before it is believed.
//
// Source: ACPI 6.4, 5.2.5 (RSDP), 5.2.12 (MADT).

#include "arch/x86_64/cpu.h"

#include <string.h>

struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t rest[28];
} __attribute__((packed));

struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
} __attribute__((packed));

enum { MADT_ENTRIES = 44, MAX_TABLE = 1 << 20 };
enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_X2APIC = 9 };

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static void add_cpu(struct acpi_info *info, uint32_t apic_id, uint32_t flags)
{
    if (!(flags & 1) || apic_id > 0xfe)
        return;
    info->ncpus_found++;
    if (info->ncpus < ARCH_MAX_CPUS)
        info->apic_ids[info->ncpus++] = apic_id;
}

static void read_entry(struct acpi_info *info, const uint8_t *e)
{
    switch (e[0]) {
    case MADT_LAPIC:
        if (e[1] >= 8)
            add_cpu(info, e[3], get32(e + 4));
        break;
    case MADT_X2APIC:
        if (e[1] >= 16)
            add_cpu(info, get32(e + 4), get32(e + 8));
        break;
    case MADT_IOAPIC:
        if (e[1] >= 12 && info->nioapics < ARRAY_LEN(info->ioapics)) {
            info->ioapics[info->nioapics].address = get32(e + 4);
            info->ioapics[info->nioapics++].gsi_base = get32(e + 8);
        }
        break;
    case MADT_OVERRIDE:
        if (e[1] >= 10 && e[3] < ARRAY_LEN(info->isa_gsi))
            info->isa_gsi[e[3]] = get32(e + 4);
        break;
    default:
        break;
    }
}

static bool read_madt(struct acpi_info *info, const uint8_t *t, uint32_t length)
{
    for (uint32_t at = MADT_ENTRIES; at + 2 <= length;) {
        uint8_t n = t[at + 1];

        if (n < 2 || at + n > length)
            break;
        read_entry(info, t + at);
        at += n;
    }
    return info->ncpus > 0;
}

bool acpi_read(paddr_t rsdp_pa, struct acpi_info *info,
               void *(*view)(uint64_t pa, size_t size))
{
    memset(info, 0, sizeof *info);
    for (uint32_t i = 0; i < ARRAY_LEN(info->isa_gsi); i++)
        info->isa_gsi[i] = i;
    if (rsdp_pa.raw == 0)
        return false;
    const struct rsdp *r = view(rsdp_pa.raw, sizeof *r);

    if (r == NULL || memcmp(r->signature, "RSD PTR ", 8) != 0)
        return false;
    bool wide = r->revision >= 2 && r->xsdt != 0;
    uint64_t root_pa = wide ? r->xsdt : r->rsdt;
    const struct acpi_header *root = view(root_pa, sizeof *root);

    if (root == NULL || root->length < sizeof *root || root->length > MAX_TABLE)
        return false;
    size_t entry = wide ? 8 : 4, n = (root->length - sizeof *root) / entry;
    const uint8_t *entries = view(root_pa + sizeof *root, n * entry);

    for (size_t i = 0; entries != NULL && i < n; i++) {
        uint64_t pa = 0;

        memcpy(&pa, entries + i * entry, entry);
        const struct acpi_header *h = view(pa, sizeof *h);

        if (h == NULL || memcmp(h->signature, "APIC", 4) != 0 ||
            h->length > MAX_TABLE)
            continue;
        const uint8_t *madt = view(pa, h->length);

        return madt != NULL && read_madt(info, madt, h->length);
    }
    return false;
}
