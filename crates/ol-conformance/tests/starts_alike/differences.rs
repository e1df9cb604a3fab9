//! What may differ between the kinds of start, each with the reason. Everything else must be the same, byte for byte.
//!
//! docs/explain/starts.md has the same list.

const AUXILIARY: &str = "the kernel told it to the zygote's program when that started; nothing tells it to a process that is forked, \
                         and os.getuid() asks anew";

/// The name of a value that the probe tells (after `import.` or `call.`), and why it may differ.
pub(crate) const ALLOWED: [(&str, &str); 7] = [
    ("auxiliary.11", AUXILIARY),
    ("auxiliary.12", AUXILIARY),
    ("auxiliary.13", AUXILIARY),
    ("auxiliary.14", AUXILIARY),
    (
        "collector.frozen",
        "what a zygote made is left out of collections, or each would copy the memory that its children share",
    ),
    (
        "status.FDSize",
        "the size of the kernel's own table of descriptors, which is as large as that of who forked the process once was",
    ),
    (
        "status.Seccomp_filters",
        "a zygote's own filter lies beneath its leaves'; the stricter holds, which is the leaf's",
    ),
];
