//! The machine's kernel: Debian's, with the few modules that the machine needs. Of the 400 MB that its package unpacks to, only these are
//! kept; their order is determined once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::packages::{keep, on_path, unpacked, with_fresh_lists};
use super::{Scratch, names};
use crate::supervise::{self, Ended};

/// The modules that the machine needs, without their dependencies: for its root, its ports, and what sandboxes mount.
const MODULES: [&str; 6] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_console",
    "virtio-rng",
];

/// A kernel that is ready to boot.
pub(super) struct Kernel {
    /// The file that qemu boots.
    pub(super) image: PathBuf,
    /// The folder of the modules.
    pub(super) dir: PathBuf,
    /// The file names of the modules, in the order in which they load.
    pub(super) modules: Vec<String>,
}

/// Returns Debian's kernel with the modules that it needs, fetching it if necessary.
pub(super) fn kernel(state: &Path, deadline: Instant) -> Result<Kernel> {
    // The name lists the modules, thus a changed list leads to a new download.
    let dir = state.join(format!("kernel+{}", MODULES.join("+")));
    if !dir.exists() {
        let package = with_fresh_lists(deadline, || {
            let mut show = Command::new("apt-cache");
            show.args(["show", "--no-all-versions", "linux-image-amd64"])
                .env("LC_ALL", "C");
            let shown = supervise::output(&show, deadline)?;
            let depends = shown
                .lines()
                .find_map(|line| line.strip_prefix("Depends: "));
            let package = depends.and_then(|depends| depends.split([' ', ',']).next());
            package
                .map(str::to_owned)
                .context("linux-image-amd64 names no kernel; this needs Debian's packages")
        })?;
        let unpacked = unpacked(state, &[package], deadline)?;
        let kept = Scratch::new(state, "kernel")?;
        pick(&unpacked.path, &kept.path)?;
        decompress(&kept.path.join("kernel"), deadline)?;
        keep(kept, &dir)?;
    }
    let order =
        fs::read_to_string(dir.join("order")).context("the kept kernel is not whole; delete it")?;
    Ok(Kernel {
        image: dir.join("kernel"),
        modules: order.lines().map(str::to_owned).collect(),
        dir,
    })
}

/// Moves the kernel and its needed modules out of the unpacked package.
fn pick(package: &Path, kept: &Path) -> Result<()> {
    let boot = package.join("boot");
    let image = names(&boot)?
        .into_iter()
        .find(|name| name.starts_with("vmlinuz-"));
    let image = image.context("the package has no kernel")?;
    fs::rename(boot.join(image), kept.join("kernel"))?;
    let mut all = BTreeMap::new();
    find_modules(&package.join("lib/modules"), &mut all)?;
    let mut order = Vec::new();
    for wanted in MODULES {
        resolve(&module_name(wanted), &all, &mut BTreeSet::new(), &mut order)?;
    }
    let mut list = String::new();
    for name in order {
        fs::rename(&all[&name], kept.join(format!("{name}.ko")))?;
        list.push_str(&format!("{name}.ko\n"));
    }
    fs::write(kept.join("order"), list)?;
    Ok(())
}

/// Replaces a compressed kernel by the uncompressed one, which qemu can boot as well: decompressing it in the machine takes more time than
/// the rest of its start. A kernel with another layout is left unchanged.
fn decompress(kernel: &Path, deadline: Instant) -> Result<()> {
    let bytes = fs::read(kernel)?;
    let (Some(payload), Some(xz)) = (payload(&bytes), on_path("xz")) else {
        return Ok(());
    };
    let compressed = kernel.with_extension("xz");
    fs::write(&compressed, payload)?;
    let mut xz = Command::new(xz);
    xz.args(["--decompress", "--stdout"]).arg(&compressed);
    let mut plain = Vec::new();
    let ended = supervise::supervise(&xz, deadline, |piece| plain.extend_from_slice(piece))?;
    if matches!(ended, Ended::Exited(status) if status.success()) && plain.starts_with(b"\x7fELF") {
        fs::write(kernel, plain)?;
    }
    fs::remove_file(compressed)?;
    Ok(())
}

/// The compressed part of a kernel, located by the header of the x86 boot protocol; `None` if it isn't compressed with xz.
fn payload(kernel: &[u8]) -> Option<&[u8]> {
    let number =
        |at: usize| Some(u32::from_le_bytes(kernel.get(at..at + 4)?.try_into().ok()?) as usize);
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let set_up = (usize::from(*kernel.get(0x1f1)?) + 1) * 512;
    let start = set_up.checked_add(number(0x248)?)?;
    // The last four bytes are not xz data but the uncompressed size.
    let end = start.checked_add(number(0x24c)?)?.checked_sub(4)?;
    kernel
        .get(start..end)
        .filter(|payload| payload.starts_with(b"\xfd7zXZ\0"))
}

/// Appends a module to the order, after its dependencies. The package has no `modules.dep`, which is generated when it is installed; the
/// modules' own `depends=` are the source of that file.
fn resolve(
    name: &str,
    all: &BTreeMap<String, PathBuf>,
    above: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) -> Result<()> {
    if order.iter().any(|done| done == name) {
        return Ok(());
    }
    if !above.insert(name.to_owned()) {
        bail!("the kernel's module {name} depends on itself");
    }
    let path = all
        .get(name)
        .with_context(|| format!("the kernel has no module {name}"))?;
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let depends = bytes
        .split(|byte| *byte == 0)
        .find_map(|text| text.strip_prefix(b"depends="));
    let depends = depends
        .with_context(|| format!("the kernel's module {name} does not say what it depends on"))?;
    for needed in String::from_utf8_lossy(depends)
        .split(',')
        .filter(|needed| !needed.is_empty())
    {
        resolve(&module_name(needed), all, above, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// Adds every module below `dir`, by name.
fn find_modules(dir: &Path, all: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for name in names(dir)? {
        let path = dir.join(&name);
        if path.is_dir() {
            find_modules(&path, all)?;
        } else if let Some(name) = name.strip_suffix(".ko") {
            all.insert(module_name(name), path);
        }
    }
    Ok(())
}

/// A module's name in the kernel: the file may be called `virtio-rng`, the module is `virtio_rng`.
fn module_name(name: &str) -> String {
    name.replace('-', "_")
}
