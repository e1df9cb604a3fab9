//! Makes a base image of any choice: built beside the one in use, and tried before it replaces that.

use std::fs::File;

use ol_warden::rootfs::Base;

use super::super::error::DirectoryError;
use super::choice::BaseChoice;
use super::python::{PythonVersion, python};
use super::record::Record;
use super::staging::Staging;
use super::unpack::{UnpackError, unpack};
use super::{debian, docker};

/// An image in the staging directory.
#[derive(Debug)]
pub(in super::super) struct Built {
    /// What to write as `base.json`.
    pub(in super::super) record: Record,
    /// The version of its Python, which was run.
    pub(in super::super) python: PythonVersion,
    /// Notes for the operator, one sentence each.
    pub(in super::super) notes: Vec<String>,
}

/// Makes the image of `choice` in `staging`.
pub(in super::super) fn build(
    choice: &BaseChoice,
    staging: &Staging,
) -> Result<Built, DirectoryError> {
    choice.check()?;
    let mut notes = Vec::new();
    let (record, left_out) = match choice {
        BaseChoice::Host => (Record::Host, 0),
        BaseChoice::Dir(path) => (Record::Dir { path: path.clone() }, 0),
        BaseChoice::Image(name) if !docker::has(name) => {
            notes.push(format!(
                "no Docker engine here has the image {name}: the base image is the host's own programs"
            ));
            (Record::Host, 0)
        }
        unpacked => {
            let left_out = unpack_into(unpacked, staging)?;
            let from = unpacked.to_string();
            (Record::Unpacked { from }, left_out)
        }
    };
    if left_out > 0 {
        notes.push(format!(
            "left out {left_out} devices and pipes of {choice}: sandboxes have their own"
        ));
    }
    let base = match &record {
        Record::Host => Base::Host,
        Record::Dir { path } => Base::Directory(path.clone()),
        Record::Unpacked { .. } => Base::Directory(staging.root()),
    };
    let python = python(&base, &choice.to_string())?;
    Ok(Built {
        record,
        python,
        notes,
    })
}

fn unpack_into(choice: &BaseChoice, staging: &Staging) -> Result<u64, DirectoryError> {
    // The files must be root's: another owner could change them under running sandboxes.
    if !rustix::process::geteuid().is_root() {
        return Err(DirectoryError::BaseNeedsRoot {
            base: choice.to_string(),
        });
    }
    match choice {
        BaseChoice::Debian(suite) => debian::make(suite, staging),
        BaseChoice::Docker(image) | BaseChoice::Image(image) => {
            docker::make(image, &choice.to_string(), staging)
        }
        BaseChoice::Tar(path) => File::open(path)
            .map_err(UnpackError::Read)
            .and_then(|archive| unpack(archive, &staging.root()))
            .map_err(|why| DirectoryError::Unpack {
                base: choice.to_string(),
                why,
            }),
        BaseChoice::Host | BaseChoice::Dir(_) => unreachable!("nothing of these is unpacked"),
    }
}
