//! Giving privilege up, for good: uid, groups, capabilities, and the ways to get them back (capabilities(7)).

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::io;

/// Becomes `id`, as user and group, with no supplementary groups. For a single-threaded process: the kernel keeps
/// these per thread.
///
/// # Errors
/// Those of setgroups(2), setresgid(2) and setresuid(2).
pub fn become_user(id: u32) -> io::Result<()> {
    set_thread_groups(&[])?;
    let (gid, uid) = (Gid::from_raw(id), Uid::from_raw(id));
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Makes `id` the effective uid, or root again; the real one stays. What is made meanwhile (a user namespace) belongs to
/// that uid. Needs [`keep_capabilities_over_setuid`] first, or the capabilities are gone too.
///
/// # Errors
/// Those of setresuid(2).
pub fn act_as(id: u32) -> io::Result<()> {
    Ok(set_thread_res_uid(None, Uid::from_raw(id), None)?)
}

/// Empties every capability set (bounding first, which needs `CAP_SETPCAP`), locks the securebits so that uid 0 means
/// nothing, and sets `no_new_privs`, after which an exec can grant nothing.
///
/// # Errors
/// Those of prctl(2) and capset(2).
pub fn renounce() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // A kernel older than these headers doesn't know the newest capabilities.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient_capability_set()?;
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    set_no_new_privs(true)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}

/// Lets [`become_user`] keep capabilities until [`renounce`]: securebits are still ours to lock after the uid changed.
///
/// # Errors
/// Those of prctl(2).
pub fn keep_capabilities_over_setuid() -> io::Result<()> {
    Ok(set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_SETUID_FIXUP,
    )?)
}
