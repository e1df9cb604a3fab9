//! What the worker gives up before it reads anything from outside: every capability, every way to regain one, and writing outside the
//! directories that its configuration names.

use crate::directory::Directory;
use crate::view;
use anyhow::{Context, Result, bail};
use ol_model::WorkerConfig;
use ol_sys::confine::Level;
use ol_sys::privilege;
use rustix::fs::{Access, access};
use std::path::PathBuf;

/// Confines this process, which must have only one thread.
///
/// # Errors
/// When the kernel refuses, or a directory can't be written afterwards; then the worker must not run.
pub(crate) fn confine(directory: &Directory, config: &WorkerConfig) -> Result<Level> {
    let writable: Vec<PathBuf> = vec![
        directory.worker(),
        config.registry_path()?,
        config.pkgs_dir.clone(),
    ];
    let mut visible = writable.clone();
    visible.push(directory.root().to_owned());
    view::open_up(&visible).context("reach the worker's directories")?;
    privilege::renounce().context("give up capabilities")?;
    let level = ol_sys::confine::writer(writable.iter().map(PathBuf::as_path))
        .context("confine the worker with Landlock")?;
    for path in &writable {
        if let Err(error) = access(path, Access::WRITE_OK | Access::EXEC_OK) {
            bail!(
                "the worker, which is root without capabilities, can't write {}: {error}; make root its owner with `chown root {}`",
                path.display(),
                path.display()
            );
        }
    }
    Ok(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::host_facts;
    use std::fs;
    use std::io::ErrorKind;

    /// Capabilities, namespaces and Landlock rulesets belong to a thread, thus this test confines a thread that ends afterwards.
    #[test]
    fn a_worker_writes_where_its_configuration_says_and_nowhere_else() {
        if !ol_testkit::root_or_skip() {
            return;
        }
        let place = tempfile::tempdir().expect("a temporary directory");
        let root = place.path().join("w");
        let elsewhere = place.path().join("elsewhere");
        let host = host_facts().expect("facts");
        let config = WorkerConfig::defaults(&root, &host);
        let (registry, packages) = (config.registry_path().expect("a path"), &config.pkgs_dir);
        for folder in [&root.join("worker"), &registry, packages, &elsewhere] {
            fs::create_dir_all(folder).expect("made");
        }
        fs::write(root.join("config.json"), config.to_json_pretty()).expect("written");
        let directory = Directory::open(&root).expect("a worker's directory");
        let tried = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                confine(&directory, &config).expect("confined");
                let tried = [&root.join("worker"), &registry, packages, &root, &elsewhere]
                    .map(|folder| fs::write(folder.join("try"), "x").map_err(|e| e.kind()));
                let capabilities = fs::read_to_string("/proc/thread-self/status").expect("proc");
                let none = capabilities
                    .lines()
                    .filter(|line| line.starts_with("Cap"))
                    .all(|line| line.ends_with("\t0000000000000000"));
                (tried, none)
            });
            confined.join().expect("no panic")
        });
        let (allowed, refused) = (Ok(()), Err(ErrorKind::PermissionDenied));
        assert_eq!(tried, ([allowed, allowed, allowed, refused, refused], true));
        assert!(
            fs::write(elsewhere.join("try"), "x").is_ok(),
            "only that thread is confined"
        );
    }
}
