//! Gives privilege up for good: uid, groups, capabilities, and the ways to get them back (capabilities(7)).

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::io;

/// Becomes user and group `id`, with no supplementary groups.
///
/// Only for a single-threaded process, since the kernel keeps uids and gids per thread.
///
/// # Errors
/// Those of setgroups(2), setresgid(2) and setresuid(2).
pub fn become_user(id: u32) -> io::Result<()> {
    set_thread_groups(&[])?;
    let (gid, uid) = (Gid::from_raw(id), Uid::from_raw(id));
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Makes `id` the effective uid; the real uid stays. Called with 0 afterwards, it makes root the effective uid again.
///
/// A user namespace made meanwhile is owned by the effective uid. Call [`keep_capabilities_over_setuid`] before, or the change of
/// uid costs the process its capabilities.
///
/// # Errors
/// Those of setresuid(2).
pub fn act_as(id: u32) -> io::Result<()> {
    Ok(set_thread_res_uid(None, Uid::from_raw(id), None)?)
}

/// Gives up all capabilities and every way to get them back.
///
/// Empties every capability set (the bounding set first, which needs `CAP_SETPCAP`), locks the securebits so that uid 0 has no
/// special meaning, and sets `no_new_privs`, after which an exec can grant no privilege.
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

/// Makes changes of uid keep the capabilities until [`renounce`], which needs them to lock the securebits.
///
/// # Errors
/// Those of prctl(2).
pub fn keep_capabilities_over_setuid() -> io::Result<()> {
    Ok(set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_SETUID_FIXUP,
    )?)
}
