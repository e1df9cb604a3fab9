//! Makes a base image from one of the local Docker engine: creates a container, which is never run, and exports it as an archive.

use std::process::{Command, Stdio};

use super::super::error::DirectoryError;
use super::program::{ProgramError, mortal, stream};
use super::staging::Staging;
use super::unpack::unpack;

const PROGRAM: &str = "docker";

/// Whether there is a Docker engine that has `image`.
pub(super) fn has(image: &str) -> bool {
    let looked = Command::new(PROGRAM)
        .args(["image", "inspect", image])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    looked.is_ok_and(|status| status.success())
}

/// Unpacks `image`; errors call it `base`. Returns how many devices and pipes were left out.
pub(super) fn make(image: &str, base: &str, staging: &Staging) -> Result<u64, DirectoryError> {
    let failed = |said: &str| DirectoryError::BaseProgram {
        program: PROGRAM,
        base: base.to_owned(),
        said: said
            .trim()
            .lines()
            .last()
            .unwrap_or("it said nothing")
            .to_owned(),
        remedy: "check that the engine runs and has the image (`docker image ls`), or choose another base with -i",
    };
    staging.say(&format!("copying the base image {base} from Docker"));
    // The command need not exist in the image, since it is never run.
    let created = Command::new(PROGRAM)
        .args(["create", "--network=none", image, "/never-run"])
        .stdin(Stdio::null())
        .output();
    let created = created.map_err(|error| failed(&error.to_string()))?;
    if !created.status.success() {
        return Err(failed(&String::from_utf8_lossy(&created.stderr)));
    }
    let id = String::from_utf8_lossy(&created.stdout).trim().to_owned();
    let mut export = mortal(PROGRAM);
    export.args(["export", &id]);
    let made = stream(export, &staging.log(), |archive| {
        unpack(archive, &staging.root())
    });
    // Its output would be the id again. A failure is ignored: a leftover container is no reason to go without a base.
    let _ = Command::new(PROGRAM).args(["rm", &id]).output();
    made.map_err(|error| match error {
        ProgramError::Unpack(why) => DirectoryError::Unpack {
            base: base.to_owned(),
            why,
        },
        ProgramError::Start(error) => failed(&error.to_string()),
        ProgramError::Failed(said) => failed(&said),
    })
}
