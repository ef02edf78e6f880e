/* cpu/cpuid.c - CPU models, feature flags, CPUID.
 *
 * Models     Intel SDM vol. 2A CPUID (leaves 0-16h, 80000000h-80000008h), AMD APM vol. 3 appendix E for models of that vendor. Model names and
 *            signatures as QEMU's users know them.
 * Contract   cpu_set_model() reads what stands after -cpu; the decoder asks cpu_has() for each row; guests execute CPUID.
 * Theory     A model is a line of text: feature names and the names of sets ("@x86-64-v2"). What is not implemented is taken out at the end:
 *            a feature is implemented if a row of the instruction tables needs it, or if it stands in the list of those without rows.
 *            So a bit cannot be advertised before its instructions exist.
 * Invariants 1. CPUID shows exactly the bits of cpu->features, plus the four that follow state: OSXSAVE, OSPKE, APIC, HTT.
 *            2. The TSC runs at 1 GHz, one tick a virtual nanosecond, and leaves 15h and 16h say so.
 * Missing    Features without effect on an emulator (cache topology beyond the usual figures, power management).
 */
#include "../machine.h"
#include "cpu.h"
#include "desc.h"

struct cpuid_bit {
    const char *name;
    uint32_t leaf;
    uint8_t sub, reg, bit;
};
/* ORDER cpu_feature */
static const struct cpuid_bit cpuid_bits[CPU_FEATURE_COUNT] = {
    { "", 0, 0, 0, 0 },
#define CPUID_ENTRY(id, name, leaf, sub, reg, bit) { name, leaf, sub, reg, bit },
    CPU_FEATURES(CPUID_ENTRY)
#undef CPUID_ENTRY
};

/* Features that no instruction row asks for: they are modes, MSRs or promises. */
static const uint8_t cpuid_without_rows[] = {
    CPU_FPU, CPU_VME, CPU_DE, CPU_PSE, CPU_TSC, CPU_MSR, CPU_PAE, CPU_MCE, CPU_CX8, CPU_APIC, CPU_MTRR, CPU_PGE, CPU_MCA, CPU_CMOV, CPU_PAT, CPU_PSE36,
    CPU_FXSR, CPU_SS, CPU_PCID, CPU_X2APIC, CPU_TSC_DEADLINE, CPU_HYPERVISOR, CPU_TSC_ADJUST, CPU_SMEP, CPU_ERMS, CPU_UMIP, CPU_LA57, CPU_FSRM,
    CPU_SPEC_CTRL, CPU_BHI_CTRL, CPU_ARCH_CAP, CPU_NX, CPU_PDPE1GB, CPU_LM, CPU_LAHF_LM, CPU_PREFETCHW, CPU_INVTSC, CPU_XGETBV1
};

/* Sets that models refer to. */
static const struct { const char *name, *features; } cpuid_sets[] = {
    { "i586", "fpu vme de pse tsc msr mce cx8 mmx" },
    { "i686", "@i586 pae sep mtrr pge mca cmov pat pse36 fxsr apic" },
    { "base", "@i686 clflush sse sse2" },
    { "base64", "@base lm syscall nx" },
    { "v1", "@base64" },
    { "v2", "@v1 sse3 ssse3 cx16 sse4.1 sse4.2 popcnt lahf-lm" },
    { "v3", "@v2 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave" },
    { "core2", "@base64 sse3 ssse3 cx16 lahf-lm ss" },
    { "nehalem", "@core2 sse4.1 sse4.2 popcnt" },
    { "westmere", "@nehalem aes pclmulqdq" },
    { "sandybridge", "@westmere x2apic tsc-deadline xsave xsaveopt avx rdtscp" },
    { "ivybridge", "@sandybridge f16c rdrand fsgsbase smep erms" },
    { "haswell", "@ivybridge fma movbe pcid invpcid bmi1 bmi2 avx2 abm" },
    { "broadwell", "@haswell rdseed adx smap 3dnowprefetch" },
    { "skylake", "@broadwell xsavec xgetbv1 clflushopt" },
    { "icelake", "@skylake clwb pku pdpe1gb umip rdpid sha-ni fsrm" },
    { "epyc", "@v3 apic aes pclmulqdq xsaveopt xsavec xgetbv1 rdtscp rdrand rdseed adx smap smep fsgsbase clflushopt sha-ni pdpe1gb 3dnowprefetch x2apic tsc-deadline" },
};

struct cpuid_model {
    const char *name, *vendor;
    uint16_t family, model, stepping, level;
    const char *features, *brand;
};
#define CPUID_INTEL "GenuineIntel"
#define CPUID_AMD "AuthenticAMD"
/* The first is the default. Everything that is implemented: features "*". Family 6 model 44: no erratum or mitigation list of Linux
 * names it, PAT is trusted there (not below model 15), and glibc takes its unaligned-copy string functions. */
static const struct cpuid_model cpuid_models[] = {
    { "max", CPUID_INTEL, 6, 44, 2, 0x16, "*", "emu virtual CPU (all features)" },
    { "qemu64", CPUID_AMD, 15, 107, 1, 0xD, "@base64 sse3 cx16 lahf-lm x2apic hypervisor", "QEMU Virtual CPU version 2.5+" },
    { "qemu32", CPUID_INTEL, 6, 6, 3, 4, "@base sse3 x2apic hypervisor", "QEMU Virtual CPU version 2.5+" },
    { "kvm64", CPUID_INTEL, 15, 6, 1, 0xD, "@base64 sse3 cx16 x2apic hypervisor", "Common KVM processor" },
    { "kvm32", CPUID_INTEL, 15, 6, 1, 5, "@base sse3 x2apic hypervisor", "Common 32-bit KVM processor" },
    { "x86-64-v1", CPUID_INTEL, 6, 44, 2, 0xD, "@v1 x2apic hypervisor", "emu virtual CPU (x86-64-v1)" },
    { "x86-64-v2", CPUID_INTEL, 6, 44, 2, 0xD, "@v2 x2apic hypervisor", "emu virtual CPU (x86-64-v2)" },
    { "x86-64-v3", CPUID_INTEL, 6, 44, 2, 0xD, "@v3 x2apic hypervisor", "emu virtual CPU (x86-64-v3)" },
    { "486", CPUID_INTEL, 4, 8, 0, 1, "fpu vme pse", "" },
    { "pentium", CPUID_INTEL, 5, 4, 3, 1, "@i586", "" },
    { "pentium2", CPUID_INTEL, 6, 5, 2, 2, "@i686", "" },
    { "pentium3", CPUID_INTEL, 6, 8, 3, 3, "@i686 sse", "" },
    { "coreduo", CPUID_INTEL, 6, 14, 8, 0xA, "@base sse3 ss", "Genuine Intel(R) CPU T2600 @ 2.16GHz" },
    { "n270", CPUID_INTEL, 6, 28, 2, 0xA, "@base sse3 ssse3 movbe ss", "Intel(R) Atom(TM) CPU N270 @ 1.60GHz" },
    { "core2duo", CPUID_INTEL, 6, 15, 11, 0xA, "@core2", "Intel(R) Core(TM)2 Duo CPU T7700 @ 2.40GHz" },
    { "Conroe", CPUID_INTEL, 6, 15, 3, 0xA, "@core2", "Intel Celeron_4x0 (Conroe/Merom Class Core 2)" },
    { "Penryn", CPUID_INTEL, 6, 23, 3, 0xA, "@core2 sse4.1", "Intel Core 2 Duo P9xxx (Penryn Class Core 2)" },
    { "Nehalem", CPUID_INTEL, 6, 26, 3, 0xB, "@nehalem", "Intel Core i7 9xx (Nehalem Class Core i7)" },
    { "Westmere", CPUID_INTEL, 6, 44, 1, 0xB, "@westmere", "Westmere E56xx/L56xx/X56xx (Nehalem-C)" },
    { "SandyBridge", CPUID_INTEL, 6, 42, 1, 0xD, "@sandybridge", "Intel Xeon E312xx (Sandy Bridge)" },
    { "IvyBridge", CPUID_INTEL, 6, 58, 9, 0xD, "@ivybridge", "Intel Xeon E3-12xx v2 (Ivy Bridge)" },
    { "Haswell", CPUID_INTEL, 6, 60, 4, 0xD, "@haswell", "Intel Core Processor (Haswell)" },
    { "Broadwell", CPUID_INTEL, 6, 61, 2, 0xD, "@broadwell", "Intel Core Processor (Broadwell)" },
    { "Skylake-Client", CPUID_INTEL, 6, 94, 3, 0xD, "@skylake", "Intel Core Processor (Skylake)" },
    { "Skylake-Server", CPUID_INTEL, 6, 85, 4, 0xD, "@skylake clwb pku pdpe1gb", "Intel Xeon Processor (Skylake)" },
    { "Cascadelake-Server", CPUID_INTEL, 6, 85, 6, 0xD, "@skylake clwb pku pdpe1gb", "Intel Xeon Processor (Cascadelake)" },
    { "Icelake-Server", CPUID_INTEL, 6, 106, 0, 0xD, "@icelake", "Intel Xeon Processor (Icelake)" },
    { "athlon", CPUID_AMD, 6, 2, 3, 1, "@i686 sse sse2", "QEMU Virtual CPU version 2.5+" },
    { "phenom", CPUID_AMD, 16, 2, 3, 5, "@base64 sse3 cx16 popcnt pdpe1gb rdtscp lahf-lm abm", "AMD Phenom(tm) 9550 Quad-Core Processor" },
    { "Opteron_G1", CPUID_AMD, 15, 6, 1, 5, "@base64 sse3", "AMD Opteron 240 (Gen 1 Class Opteron)" },
    { "Opteron_G2", CPUID_AMD, 15, 6, 1, 5, "@base64 sse3 cx16 lahf-lm rdtscp", "AMD Opteron 22xx (Gen 2 Class Opteron)" },
    { "Opteron_G3", CPUID_AMD, 16, 2, 3, 5, "@base64 sse3 cx16 lahf-lm rdtscp popcnt abm", "AMD Opteron 23xx (Gen 3 Class Opteron)" },
    { "Opteron_G4", CPUID_AMD, 21, 1, 2, 0xD, "@v2 rdtscp abm aes pclmulqdq xsave avx pdpe1gb", "AMD Opteron 62xx class CPU" },
    { "Opteron_G5", CPUID_AMD, 21, 2, 0, 0xD, "@v2 rdtscp abm aes pclmulqdq xsave avx pdpe1gb f16c fma", "AMD Opteron 63xx class CPU" },
    { "EPYC", CPUID_AMD, 23, 1, 2, 0xD, "@epyc", "AMD EPYC Processor" },
    { "EPYC-Rome", CPUID_AMD, 23, 49, 0, 0xD, "@epyc clwb umip rdpid", "AMD EPYC-Rome Processor" },
    { "EPYC-Milan", CPUID_AMD, 25, 1, 1, 0xD, "@epyc clwb umip rdpid pcid invpcid pku erms fsrm", "AMD EPYC-Milan Processor" },
};
#undef CPUID_INTEL
#undef CPUID_AMD

/* Names that QEMU's users write and that mean nothing here, with or without a value: accepted. */
static const char *const cpuid_ignored[] = {
    "check", "enforce", "migratable", "host-phys-bits", "host-cache-info", "l3-cache", "kvm", "pmu", "vmx", "svm", "npt", "ht", "hle", "rtm", "ssbd", "stibp", "ibpb", "ibrs",
    "amd-ssbd", "virt-ssbd", "md-clear", "tsc-frequency", "kvmclock", "kvm-pv-eoi", "tsc-scale", "topoext", "monitor-always", "acpi", "ds", "tm", "tm2", "pbe", "est", "dtes64",
    "vmcb-clean", "nrip-save", "sse4a", "misalignsse", "osvw", "perfctr-core", "mmxext", "fxsr-opt", "clzero", "wbnoinvd", "xsaves", "avx512f", "avx512dq", "avx512cd", "avx512bw",
    "avx512vl", "avx512vnni", "avx512-vnni", "mpx", "gfni", "vaes", "vpclmulqdq", "xop", "fma4", "tbm", "x-migrate-smi-count", "pdcm", "xtpr", "invariant-tsc", "arat"
};

static char cpuid_fold(char ch) { return ch == '_' || ch == '.' ? '-' : ch >= 'A' && ch <= 'Z' ? (char)(ch - 'A' + 'a') : ch; }

static bool cpuid_name_is(const char *name, const char *text, size_t n)
{
    size_t k;
    for (k = 0; k < n; k++)
        if (!name[k] || cpuid_fold(name[k]) != cpuid_fold(text[k]))
            return false;
    return name[n] == 0;
}

static int cpuid_find_feature(const char *text, size_t n)
{
    static const struct { const char *other; enum cpu_feature f; } aliases[] = {
        { "lzcnt", CPU_ABM }, { "pni", CPU_SSE3 }, { "sse3", CPU_SSE3 }, { "i64", CPU_LM }, { "xd", CPU_NX }, { "osxsave", CPU_XSAVE }, { "cmpxchg16b", CPU_CX16 }, { "sha", CPU_SHA }, { "tscdeadline", CPU_TSC_DEADLINE }
    };
    int f;
    size_t k;
    for (f = 1; f < CPU_FEATURE_COUNT; f++)
        if (cpuid_name_is(cpuid_bits[f].name, text, n))
            return f;
    for (k = 0; k < EMU_ARRAY_LEN(aliases); k++)
        if (cpuid_name_is(aliases[k].other, text, n))
            return (int)aliases[k].f;
    return -1;
}

static void cpuid_set_bit(uint32_t *set, unsigned f, bool on)
{
    if (on)
        set[f >> 5] |= UINT32_C(1) << (f & 31);
    else
        set[f >> 5] &= ~(UINT32_C(1) << (f & 31));
}
static bool cpuid_get_bit(const uint32_t *set, unsigned f) { return (set[f >> 5] >> (f & 31)) & 1; }

/* What this CPU implements. */
static void cpuid_implemented(uint32_t *set)
{
    const struct insn_row *tables[7], *r;
    size_t k;
    tables[0] = cpu_rows_int();
    tables[1] = cpu_rows_system();
    tables[2] = cpu_rows_x87();
    tables[3] = cpu_rows_mmx();
    tables[4] = cpu_rows_sse();
    tables[5] = cpu_rows_sse4();
    tables[6] = cpu_rows_crypto();
    memset(set, 0, sizeof(uint32_t) * ((CPU_FEATURE_COUNT + 31) / 32));
    for (k = 0; k < EMU_ARRAY_LEN(tables); k++)
        for (r = tables[k]; r->name; r++)
            if (r->needs != CPU_BMI1 || (r->enc & VEX_MASK)) /* TZCNT alone does not make BMI1 */
                cpuid_set_bit(set, r->needs, true);
    for (k = 0; k < EMU_ARRAY_LEN(cpuid_without_rows); k++)
        cpuid_set_bit(set, cpuid_without_rows[k], true);
}

/* Adds the features that a line names; sets inside it are followed (they nest a few levels, no cycles: the table is ours). */
static void cpuid_add_line(uint32_t *set, const char *line)
{
    while (*line) {
        size_t n = strcspn(line, " "), k;
        int f;
        if (*line == '@') {
            for (k = 0; k < EMU_ARRAY_LEN(cpuid_sets); k++)
                if (cpuid_name_is(cpuid_sets[k].name, line + 1, n - 1))
                    cpuid_add_line(set, cpuid_sets[k].features);
        } else {
            f = cpuid_find_feature(line, n);
            assert(f > 0);
            cpuid_set_bit(set, (unsigned)f, true);
        }
        line += n;
        line += *line == ' ';
    }
}

/* Features that make no sense without another one. */
static void cpuid_resolve(uint32_t *set)
{
    static const uint8_t needs[][2] = {
        { CPU_XSAVEOPT, CPU_XSAVE }, { CPU_XSAVEC, CPU_XSAVE }, { CPU_XGETBV1, CPU_XSAVE }, { CPU_AVX, CPU_XSAVE }, { CPU_AVX2, CPU_AVX }, { CPU_FMA, CPU_AVX }, { CPU_F16C, CPU_AVX },
        { CPU_PKU, CPU_XSAVE }, { CPU_X2APIC, CPU_APIC }, { CPU_TSC_DEADLINE, CPU_APIC }, { CPU_PCID, CPU_LM }, { CPU_LA57, CPU_LM }, { CPU_PDPE1GB, CPU_LM }, { CPU_SYSCALL, CPU_LM },
        { CPU_SSE, CPU_FXSR }, { CPU_SSE2, CPU_SSE }, { CPU_SSE3, CPU_SSE2 }, { CPU_RDTSCP, CPU_TSC }, { CPU_INVTSC, CPU_TSC }, { CPU_FSGSBASE, CPU_LM }, { CPU_BHI_CTRL, CPU_SPEC_CTRL }
    };
    size_t k;
    for (k = 0; k < EMU_ARRAY_LEN(needs); k++)
        if (!cpuid_get_bit(set, needs[k][1]))
            cpuid_set_bit(set, needs[k][0], false);
}

static uint32_t cpuid_signature(unsigned family, unsigned model, unsigned stepping)
{
    uint32_t s = (stepping & 15) | (model & 15) << 4 | ((model >> 4) & 15) << 16;
    return family > 15 ? s | 15u << 8 | ((family - 15) & 0xFF) << 20 : s | family << 8;
}

static const struct cpuid_model *cpuid_find_model(const char *text, size_t n)
{
    static const char *const suffixes[] = { "-noTSX-IBRS", "-noTSX", "-IBRS", "-IBPB", "-v1", "-v2", "-v3", "-v4", "-v5" };
    size_t k, s, m;
    if (cpuid_name_is("host", text, n) || cpuid_name_is("base", text, n))
        return &cpuid_models[0];
    for (k = 0; k < EMU_ARRAY_LEN(cpuid_models); k++) {
        if (cpuid_name_is(cpuid_models[k].name, text, n))
            return &cpuid_models[k];
        m = strlen(cpuid_models[k].name);
        for (s = 0; s < EMU_ARRAY_LEN(suffixes); s++)
            if (n == m + strlen(suffixes[s]) && cpuid_name_is(cpuid_models[k].name, text, m) && cpuid_name_is(suffixes[s], text + m, n - m))
                return &cpuid_models[k];
    }
    return NULL;
}

struct cpuid_request { /* while -cpu's argument is read */
    uint32_t set[(CPU_FEATURE_COUNT + 31) / 32], implemented[(CPU_FEATURE_COUNT + 31) / 32];
    unsigned family, model, stepping;
};

static int cpuid_number(struct err *err, const char *key, const char *value, uint64_t min, uint64_t max, uint64_t *out)
{
    if (parse_u64(value, min, max, out))
        return err_set(err, EMU_EINVAL, "-cpu: %s=%s is not a number between %" PRIu64 " and %" PRIu64, key, value, min, max);
    return 0;
}

/* key=value pairs that are no feature. 1: not one of them. */
static int cpuid_property(struct cpu *c, struct cpuid_request *q, const char *key, const char *value, struct err *err)
{
    uint64_t v = 0;
    int r = 0;
    if (!strcmp(key, "vendor")) {
        if (strlen(value) != 12)
            return err_set(err, EMU_EINVAL, "-cpu: vendor=%s must have 12 characters, such as GenuineIntel or AuthenticAMD", value);
        memcpy(c->vendor, value, 13);
    } else if (!strcmp(key, "model-id") || !strcmp(key, "model_id")) {
        memset(c->brand, 0, sizeof c->brand);
        snprintf(c->brand, sizeof c->brand, "%.48s", value);
    } else if (!strcmp(key, "family")) {
        if ((r = cpuid_number(err, key, value, 0, 270, &v)) == 0)
            q->family = (unsigned)v;
    } else if (!strcmp(key, "model")) {
        if ((r = cpuid_number(err, key, value, 0, 255, &v)) == 0)
            q->model = (unsigned)v;
    } else if (!strcmp(key, "stepping")) {
        if ((r = cpuid_number(err, key, value, 0, 15, &v)) == 0)
            q->stepping = (unsigned)v;
    } else if (!strcmp(key, "level")) {
        if ((r = cpuid_number(err, key, value, 0, 0x16, &v)) == 0)
            c->basic_leaves = (uint32_t)v;
    } else if (!strcmp(key, "phys-bits")) {
        if ((r = cpuid_number(err, key, value, 32, 52, &v)) == 0)
            c->phys_bits = (uint8_t)v;
    } else {
        return 1;
    }
    return r;
}

static bool cpuid_is_ignored(const char *name, size_t n)
{
    size_t k;
    if ((n > 3 && (!strncmp(name, "hv-", 3) || !strncmp(name, "hv_", 3))) || (n > 4 && !strncmp(name, "kvm", 3)) || (n > 6 && !strncmp(name, "avx512", 6)) || (n > 4 && !strncmp(name, "vmx-", 4)))
        return true;
    for (k = 0; k < EMU_ARRAY_LEN(cpuid_ignored); k++)
        if (cpuid_name_is(cpuid_ignored[k], name, n))
            return true;
    return false;
}

/* One item after the model's name. */
static int cpuid_item(struct cpu *c, struct cpuid_request *q, const char *item, size_t n, struct err *err)
{
    char key[64], value[80];
    size_t name = n, start = 0;
    bool on = true;
    const char *eq = memchr(item, '=', n);
    int f, r;
    if (n == 0)
        return 0;
    if (item[0] == '+' || item[0] == '-') {
        on = item[0] == '+';
        start = 1;
        name = n - 1;
    } else if (eq) {
        name = (size_t)(eq - item);
        if (name >= sizeof key || n - name - 1 >= sizeof value)
            return err_set(err, EMU_EINVAL, "-cpu: %.*s is too long", (int)n, item);
        memcpy(key, item, name);
        key[name] = 0;
        memcpy(value, eq + 1, n - name - 1);
        value[n - name - 1] = 0;
        r = cpuid_property(c, q, key, value, err);
        if (r <= 0)
            return r;
        if (!strcmp(value, "off") || !strcmp(value, "no") || !strcmp(value, "false"))
            on = false;
        else if (strcmp(value, "on") && strcmp(value, "yes") && strcmp(value, "true") && !cpuid_is_ignored(key, name))
            return err_set(err, EMU_EINVAL, "-cpu: %s=%s: say on or off", key, value);
    }
    f = cpuid_find_feature(item + start, name);
    if (f < 0) {
        if (!cpuid_is_ignored(item + start, name))
            return err_set(err, EMU_EINVAL, "-cpu: no feature is called %.*s; -cpu help lists them", (int)name, item + start);
        if (on && start == 1 && c->index == 0)
            emu_log(c->emu, LOG_NOTICE, "-cpu: %.*s does not exist here and is left out", (int)name, item + start);
        return 0;
    }
    if (on && !cpuid_get_bit(q->implemented, (unsigned)f) && c->index == 0)
        emu_log(c->emu, LOG_NOTICE, "-cpu: %.*s is not implemented yet and is left out", (int)name, item + start);
    cpuid_set_bit(q->set, (unsigned)f, on);
    return 0;
}

EMU_PRIV int cpu_set_model(struct cpu *c, const char *model, struct err *err)
{
    struct cpuid_request q;
    const struct cpuid_model *m;
    size_t n, k;
    int r;
    if (!model || !*model)
        model = cpuid_models[0].name;
    n = strcspn(model, ",");
    m = cpuid_find_model(model, n);
    if (!m)
        return err_set(err, EMU_EINVAL, "-cpu %.*s: no such model; -cpu help lists them", (int)n, model);
    memset(&q, 0, sizeof q);
    cpuid_implemented(q.implemented);
    q.family = m->family;
    q.model = m->model;
    q.stepping = m->stepping;
    if (m->features[0] == '*') {
        memcpy(q.set, q.implemented, sizeof q.set);
        cpuid_set_bit(q.set, CPU_MONITOR, false); /* idle loops should halt */
        cpuid_set_bit(q.set, CPU_LA57, false);    /* only where asked for: kernels then walk five levels */
    } else {
        cpuid_add_line(q.set, m->features);
    }
    memset(c->vendor, 0, sizeof c->vendor);
    memset(c->brand, 0, sizeof c->brand);
    snprintf(c->vendor, sizeof c->vendor, "%s", m->vendor);
    snprintf(c->brand, sizeof c->brand, "%s", m->brand);
    c->basic_leaves = m->level;
    c->phys_bits = 40;
    for (model += n; *model == ','; model += n) {
        model++;
        n = strcspn(model, ",");
        r = cpuid_item(c, &q, model, n, err);
        if (r)
            return r;
    }
    for (k = 0; k < EMU_ARRAY_LEN(q.set); k++)
        q.set[k] &= q.implemented[k];
    cpuid_resolve(q.set);
    memcpy(c->features, q.set, sizeof c->features);
    c->signature = cpuid_signature(q.family, q.model, q.stepping);
    if (!cpu_has(c, CPU_LM) && c->phys_bits > 36)
        c->phys_bits = cpu_has(c, CPU_PAE) || cpu_has(c, CPU_PSE36) ? 36 : 32;
    return 0;
}

EMU_PRIV void cpu_print_models(struct buf *out)
{
    uint32_t implemented[(CPU_FEATURE_COUNT + 31) / 32];
    size_t k, column = 0;
    unsigned f;
    buf_printf(out, "Available CPUs:\n");
    for (k = 0; k < EMU_ARRAY_LEN(cpuid_models); k++)
        buf_printf(out, "  %-20s %s\n", cpuid_models[k].name, cpuid_models[k].brand);
    buf_printf(out, "  %-20s the same as max\n\nRecognized CPUID flags:\n", "host");
    cpuid_implemented(implemented);
    for (f = 1; f < CPU_FEATURE_COUNT; f++) {
        if (!cpuid_get_bit(implemented, f))
            continue;
        if (column + strlen(cpuid_bits[f].name) + 1 > 76) {
            buf_printf(out, "\n");
            column = 0;
        }
        buf_printf(out, "%s%s", column ? " " : "  ", cpuid_bits[f].name);
        column += strlen(cpuid_bits[f].name) + (column ? 1 : 2);
    }
    buf_printf(out, "\n");
}

/* ---- the instruction ---- */

static uint32_t cpuid_feature_reg(const struct cpu *c, uint32_t leaf, unsigned sub, unsigned reg)
{
    uint32_t v = 0;
    unsigned f;
    for (f = 1; f < CPU_FEATURE_COUNT; f++)
        if (cpuid_bits[f].leaf == leaf && cpuid_bits[f].sub == sub && cpuid_bits[f].reg == reg && cpu_has(c, (enum cpu_feature)f))
            v |= UINT32_C(1) << cpuid_bits[f].bit;
    return v;
}

static void cpuid_text(const char *s, uint32_t *r, unsigned words)
{
    unsigned k;
    for (k = 0; k < words; k++)
        r[k] = ld32le(s + k * 4);
}

static unsigned cpuid_log2_up(unsigned n)
{
    unsigned b = 0;
    while ((1u << b) < n)
        b++;
    return b;
}

/* Leaf 4: caches. type 1 data, 2 instruction, 3 unified. */
static void cpuid_cache(const struct cpu *c, unsigned type, unsigned level, unsigned ways, unsigned sets, bool shared, uint32_t out[4])
{
    unsigned cores = c->emu->cpu_count ? c->emu->cpu_count : 1;
    unsigned ids = 1u << cpuid_log2_up(cores);
    out[0] = type | level << 5 | 1u << 8 | (shared ? ids - 1 : 0) << 14 | (EMU_MIN(ids, 64u) - 1) << 26;
    out[1] = 63 | 0u << 12 | (ways - 1) << 22;
    out[2] = sets - 1;
    out[3] = shared ? 1u << 1 : 0;
}

static void cpuid_leaf1(const struct cpu *c, uint32_t out[4])
{
    unsigned cores = c->emu->cpu_count ? c->emu->cpu_count : 1;
    out[0] = c->signature;
    out[1] = c->index << 24 | (cores > 1 ? (1u << cpuid_log2_up(cores)) << 16 : 0) | (cpu_has(c, CPU_CLFLUSH) ? 8u << 8 : 0);
    out[2] = cpuid_feature_reg(c, 1, 0, 2) | (c->cr4 & CR4_OSXSAVE ? 1u << 27 : 0);
    out[3] = cpuid_feature_reg(c, 1, 0, 3) | (cores > 1 ? 1u << 28 : 0);
    if (!(c->apic_base & 0x800))
        out[3] &= ~(1u << 9);
}

static void cpuid_leaf_b(const struct cpu *c, uint32_t sub, uint32_t out[4])
{
    unsigned cores = c->emu->cpu_count ? c->emu->cpu_count : 1;
    out[2] = sub & 0xFF;
    out[3] = c->index;
    if (sub == 0) { /* threads */
        out[0] = 0;
        out[1] = 1;
        out[2] |= 1u << 8;
    } else if (sub == 1) { /* cores */
        out[0] = cpuid_log2_up(cores);
        out[1] = cores;
        out[2] |= 2u << 8;
    }
}

static void cpuid_leaf_d(const struct cpu *c, uint32_t sub, uint32_t out[4])
{
    uint64_t all = xsave_components(c);
    uint32_t offset, size, end = 576, enabled = 576, compact = 576;
    unsigned k;
    if (!cpu_has(c, CPU_XSAVE))
        return;
    if (sub <= 1) {
        for (k = 2; k < 63; k++) {
            xsave_component(k, &offset, &size);
            if (!size)
                continue;
            if ((all >> k) & 1)
                end = EMU_MAX(end, offset + size);
            if ((c->xcr0 >> k) & 1) {
                enabled = EMU_MAX(enabled, offset + size);
                compact += size;
            }
        }
        if (sub == 0) {
            out[0] = (uint32_t)all;
            out[1] = enabled;
            out[2] = end;
            out[3] = (uint32_t)(all >> 32);
        } else {
            out[0] = cpuid_feature_reg(c, 0xD, 1, 0);
            out[1] = compact;
        }
    } else if (sub < 63 && ((all >> sub) & 1)) {
        xsave_component(sub, &offset, &size);
        out[0] = size;
        out[1] = offset;
    }
}

static void cpuid_extended(const struct cpu *c, uint32_t leaf, uint32_t out[4])
{
    bool amd = !strcmp(c->vendor, "AuthenticAMD");
    unsigned cores = c->emu->cpu_count ? c->emu->cpu_count : 1;
    switch (leaf) {
    case 0x80000000u:
        out[0] = 0x80000008u;
        if (amd)
            cpuid_text(c->vendor, out + 1, 1), cpuid_text(c->vendor + 4, out + 3, 1), cpuid_text(c->vendor + 8, out + 2, 1);
        break;
    case 0x80000001u:
        out[0] = amd ? c->signature : 0;
        out[2] = cpuid_feature_reg(c, leaf, 0, 2) | (amd && cores > 1 ? 2u : 0);
        out[3] = cpuid_feature_reg(c, leaf, 0, 3);
        if (amd) /* repeats of leaf 1 */
            out[3] |= cpuid_feature_reg(c, 1, 0, 3) & 0x0183F3FFu;
        if (!amd && c->mode != MODE_LONG)
            out[3] &= ~(1u << 11); /* Intel shows SYSCALL in 64-bit mode only */
        break;
    case 0x80000002u: cpuid_text(c->brand, out, 4); break;
    case 0x80000003u: cpuid_text(c->brand + 16, out, 4); break;
    case 0x80000004u: cpuid_text(c->brand + 32, out, 4); break;
    case 0x80000005u:
        if (amd) {
            out[0] = out[1] = 0x01FF01FFu;
            out[2] = out[3] = 0x40020140u; /* 64 KiB, 2 ways, 64-byte lines */
        }
        break;
    case 0x80000006u:
        out[2] = 0x02008140u; /* L2: 512 KiB, 16 ways, 64-byte lines */
        if (amd)
            out[3] = 0x00808140u;
        break;
    case 0x80000007u: out[3] = cpuid_feature_reg(c, leaf, 0, 3); break;
    case 0x80000008u:
        out[0] = c->phys_bits | (cpu_has(c, CPU_LM) ? (cpu_has(c, CPU_LA57) ? 57u : 48u) : 32u) << 8;
        if (amd && cores > 1)
            out[2] = (cores - 1) | cpuid_log2_up(cores) << 12;
        break;
    default: break;
    }
}

EMU_PRIV void cpu_cpuid(struct cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    bool intel = strcmp(c->vendor, "AuthenticAMD") != 0;
    memset(out, 0, 4 * sizeof out[0]);
    if (leaf >= 0x40000000u && leaf < 0x40000100u && cpu_has(c, CPU_HYPERVISOR)) {
        if (leaf == 0x40000000u) {
            out[0] = 0x40000001u;
            cpuid_text("EMUEMUEMUEMU", out + 1, 3);
        }
        return;
    }
    if (leaf >= 0x80000000u && leaf <= 0x80000008u && (cpu_has(c, CPU_LM) || c->brand[0])) {
        cpuid_extended(c, leaf, out);
        return;
    }
    if (leaf > c->basic_leaves) {
        if (!intel || (leaf >= 0x80000000u && !cpu_has(c, CPU_LM) && !c->brand[0]))
            return;
        leaf = c->basic_leaves; /* Intel answers with the highest basic leaf */
    }
    switch (leaf) {
    case 0:
        out[0] = c->basic_leaves;
        cpuid_text(c->vendor, out + 1, 1);
        cpuid_text(c->vendor + 4, out + 3, 1);
        cpuid_text(c->vendor + 8, out + 2, 1);
        break;
    case 1: cpuid_leaf1(c, out); break;
    case 2:
        if (intel) {
            out[0] = 1;
            out[3] = 0x002C307Du; /* L2 2 MiB, L1I and L1D 32 KiB */
        }
        break;
    case 4:
        if (!intel)
            break;
        switch (subleaf) {
        case 0: cpuid_cache(c, 1, 1, 8, 64, false, out); break;
        case 1: cpuid_cache(c, 2, 1, 8, 64, false, out); break;
        case 2: cpuid_cache(c, 3, 2, 16, 4096, false, out); break;
        case 3: cpuid_cache(c, 3, 3, 16, 16384, true, out); break;
        default: break;
        }
        break;
    case 5:
        if (cpu_has(c, CPU_MONITOR)) {
            out[0] = out[1] = 64;
            out[2] = 3;
        }
        break;
    case 6: out[0] = 4; break; /* ARAT: the local APIC timer never stops */
    case 7:
        if (subleaf == 0) {
            out[0] = cpu_has(c, CPU_BHI_CTRL) ? 2 : 0; /* highest subleaf */
            out[1] = cpuid_feature_reg(c, 7, 0, 1);
            out[2] = cpuid_feature_reg(c, 7, 0, 2) | (c->cr4 & CR4_PKE ? 1u << 4 : 0);
            out[3] = cpuid_feature_reg(c, 7, 0, 3);
        } else if (subleaf == 2) {
            out[3] = cpuid_feature_reg(c, 7, 2, 3);
        }
        break;
    case 0xB: cpuid_leaf_b(c, subleaf, out); break;
    case 0xD: cpuid_leaf_d(c, subleaf, out); break;
    case 0x15: /* crystal 1 GHz, TSC 1:1 */
        out[0] = out[1] = 1;
        out[2] = (uint32_t)cpu_tsc_hz();
        break;
    case 0x16:
        out[0] = out[1] = (uint32_t)(cpu_tsc_hz() / 1000000u);
        out[2] = 100;
        break;
    default: break;
    }
}
