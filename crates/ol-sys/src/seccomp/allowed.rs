//! The allow-list of a leaf, by purpose.
//!
//! Never in it: the mount family, unshare, setns, chroot, pivot_root, mknod, ptrace, process_vm_*, pidfd_getfd, kcmp,
//! inotify (the base's files are shared, so it would tell what other tenants open), mincore and cachestat (they tell which of those
//! files others have read), perf, bpf, userfaultfd, io_uring, kernel AIO (its quota is the machine's), sync (it flushes the disks of
//! the whole machine), keyrings, open_by_handle_at, modules, kexec, syslog, clocks, swap, quotas.
//!
//! clone3 is left out so that glibc falls back to clone, whose flags a filter can read (EPERM would break threads).

use super::compile::{AllowList, Argument, Refusal};
use libc::*;

const FILES: &[c_long] = &[
    SYS_read,
    SYS_write,
    SYS_open,
    SYS_close,
    SYS_stat,
    SYS_fstat,
    SYS_lstat,
    SYS_lseek,
    SYS_pread64,
    SYS_pwrite64,
    SYS_readv,
    SYS_writev,
    SYS_preadv,
    SYS_pwritev,
    SYS_access,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_openat,
    SYS_openat2,
    SYS_creat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_dup,
    SYS_dup2,
    SYS_dup3,
    SYS_flock,
    SYS_sync_file_range,
    SYS_truncate,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_readahead,
    SYS_getdents,
    SYS_getdents64,
    SYS_getcwd,
    SYS_chdir,
    SYS_fchdir,
    SYS_rename,
    SYS_renameat,
    SYS_renameat2,
    SYS_mkdir,
    SYS_mkdirat,
    SYS_rmdir,
    SYS_link,
    SYS_linkat,
    SYS_unlink,
    SYS_unlinkat,
    SYS_symlink,
    SYS_symlinkat,
    SYS_readlink,
    SYS_readlinkat,
    SYS_chmod,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_chown,
    SYS_fchown,
    SYS_lchown,
    SYS_fchownat,
    SYS_umask,
    SYS_utime,
    SYS_utimes,
    SYS_utimensat,
    SYS_futimesat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_getxattr,
    SYS_lgetxattr,
    SYS_fgetxattr,
    SYS_listxattr,
    SYS_llistxattr,
    SYS_flistxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    SYS_sendfile,
    SYS_splice,
    SYS_tee,
    SYS_vmsplice,
    SYS_copy_file_range,
    SYS_pipe,
    SYS_pipe2,
    SYS_close_range,
    SYS_fchmodat2,
];

const MEMORY: &[c_long] = &[
    SYS_mprotect,
    SYS_munmap,
    SYS_brk,
    SYS_mremap,
    SYS_msync,
    SYS_mlock,
    SYS_mlock2,
    SYS_munlock,
    SYS_mlockall,
    SYS_munlockall,
    SYS_membarrier,
    SYS_pkey_mprotect,
    SYS_pkey_alloc,
    SYS_pkey_free,
    SYS_shmat,
    SYS_shmctl,
    SYS_shmdt,
    SYS_remap_file_pages,
];

const PROCESSES: &[c_long] = &[
    SYS_fork,
    SYS_vfork,
    SYS_execve,
    SYS_execveat,
    SYS_exit,
    SYS_exit_group,
    SYS_wait4,
    SYS_waitid,
    SYS_kill,
    SYS_tkill,
    SYS_tgkill,
    SYS_getpid,
    SYS_getppid,
    SYS_gettid,
    SYS_getpgid,
    SYS_setpgid,
    SYS_getpgrp,
    SYS_setsid,
    SYS_getsid,
    SYS_getuid,
    SYS_getgid,
    SYS_geteuid,
    SYS_getegid,
    SYS_getresuid,
    SYS_getresgid,
    SYS_getgroups,
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setgroups,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_capget,
    SYS_capset,
    SYS_prctl,
    SYS_arch_prctl,
    SYS_getrlimit,
    SYS_setrlimit,
    SYS_prlimit64,
    SYS_getrusage,
    SYS_times,
    SYS_getpriority,
    SYS_setpriority,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_setaffinity,
    SYS_sched_getparam,
    SYS_sched_setparam,
    SYS_sched_getscheduler,
    SYS_sched_setscheduler,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_sched_rr_get_interval,
    SYS_sched_getattr,
    SYS_sched_setattr,
    SYS_ioprio_get,
    SYS_ioprio_set,
    SYS_set_tid_address,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_futex,
    SYS_futex_waitv,
    SYS_rseq,
    SYS_restart_syscall,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_seccomp,
    SYS_landlock_create_ruleset,
    SYS_landlock_add_rule,
    SYS_landlock_restrict_self,
    SYS_getcpu,
    SYS_get_mempolicy,
    SYS_set_mempolicy,
    SYS_mbind,
];

const SIGNALS_AND_TIME: &[c_long] = &[
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigpending,
    SYS_rt_sigtimedwait,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_rt_sigsuspend,
    SYS_sigaltstack,
    SYS_signalfd,
    SYS_signalfd4,
    SYS_pause,
    SYS_alarm,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_time,
    SYS_getitimer,
    SYS_setitimer,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_timer_gettime,
    SYS_timer_getoverrun,
    SYS_timer_delete,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
];

const WAITING: &[c_long] = &[
    SYS_poll,
    SYS_ppoll,
    SYS_select,
    SYS_pselect6,
    SYS_epoll_create,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_wait,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd,
    SYS_eventfd2,
];

const SOCKETS_AND_IPC: &[c_long] = &[
    SYS_connect,
    SYS_accept,
    SYS_accept4,
    SYS_bind,
    SYS_listen,
    SYS_shutdown,
    SYS_getsockname,
    SYS_getpeername,
    SYS_setsockopt,
    SYS_getsockopt,
    SYS_sendto,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_recvmmsg,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_semctl,
    SYS_msgget,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_mq_open,
    SYS_mq_unlink,
    SYS_mq_timedsend,
    SYS_mq_timedreceive,
    SYS_mq_notify,
    SYS_mq_getsetattr,
];

const FACTS: &[c_long] = &[SYS_uname, SYS_sysinfo, SYS_getrandom];

/// Flags of clone(2) that would make a namespace.
const NEW_NAMESPACE: u32 = (CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET)
    .cast_unsigned();

/// Allowed flags of preadv2(2) and pwritev2(2): `RWF_HIPRI`, `DSYNC`, `SYNC`, `APPEND`, `NOAPPEND`, `ATOMIC`.
///
/// Not `NOWAIT`, which would tell which files of the base others have read, and not `DONTCACHE`, which would drop pages that they
/// need.
const HARMLESS_FLAGS: u32 = 0x01 | 0x02 | 0x04 | 0x10 | 0x20 | 0x40;

/// Flags that ask for huge pages, which are refused: the host has few, and all its programs share them.
const MAP_HUGE: u32 = MAP_HUGETLB.cast_unsigned();
const SHM_HUGE: u32 = SHM_HUGETLB.cast_unsigned();
const MEMFD_HUGE: u32 = MFD_HUGETLB;

const UNIX: u32 = AF_UNIX.cast_unsigned();

/// Calls allowed whatever their arguments.
const CALLS: [&[c_long]; 7] = [
    FILES,
    MEMORY,
    PROCESSES,
    SIGNALS_AND_TIME,
    WAITING,
    SOCKETS_AND_IPC,
    FACTS,
];

/// Calls that do nothing and return success.
///
/// Everything that a function can write lies in memory, so nothing has to reach a disk. The files that it can only read lie on the
/// host's disk; called on them, each of these would make the disk write out its cache.
const NEEDLESS: &[c_long] = &[SYS_fsync, SYS_fdatasync, SYS_syncfs];

/// Calls whose arguments are checked.
const BY_ARGUMENT: [(c_long, Argument); 13] = [
    // Threads and forks are allowed, new namespaces are not.
    (
        SYS_clone,
        Argument::NoBits {
            index: 0,
            bits: NEW_NAMESPACE,
            refusal: Refusal::Forbidden,
        },
    ),
    // No protocols but TCP, UDP and Unix sockets: no packet, vsock, alg, bluetooth, nfnetlink.
    (SYS_socket, Argument::Socket),
    (
        SYS_socketpair,
        Argument::OneOf {
            index: 0,
            values: &[UNIX],
        },
    ),
    // These push input into a terminal that somebody else reads.
    (
        SYS_ioctl,
        Argument::NoneOf {
            index: 1,
            values: &[
                0x5412, /* TIOCSTI */
                0x541c, /* TIOCLINUX */
                // If the base lies on btrfs, these make its file system write out everything.
                0x9408,      /* BTRFS_IOC_SYNC */
                0x8008_9418, /* BTRFS_IOC_START_SYNC */
            ],
            refusal: Refusal::Forbidden,
        },
    ),
    // Like inotify, this would tell what others open in a directory of the base.
    (
        SYS_fcntl,
        Argument::NoneOf {
            index: 1,
            values: &[F_NOTIFY.cast_unsigned()],
            refusal: Refusal::Forbidden,
        },
    ),
    (SYS_preadv2, FLAGS_OF_A_READ),
    (SYS_pwritev2, FLAGS_OF_A_READ),
    // This advice is ignored: it would drop files of the base, which others need, from the host's page cache.
    (
        SYS_fadvise64,
        Argument::NoneOf {
            index: 3,
            values: &[POSIX_FADV_DONTNEED.cast_unsigned()],
            refusal: Refusal::Needless,
        },
    ),
    // These are ignored too. COLD and PAGEOUT do the same for mapped files. MERGEABLE shares pages of equal content between processes,
    // which lets one find out what another has in memory.
    (
        SYS_madvise,
        Argument::NoneOf {
            index: 2,
            values: &[
                MADV_COLD.cast_unsigned(),
                MADV_PAGEOUT.cast_unsigned(),
                MADV_MERGEABLE.cast_unsigned(),
            ],
            refusal: Refusal::Needless,
        },
    ),
    (
        SYS_mmap,
        Argument::NoBits {
            index: 3,
            bits: MAP_HUGE,
            refusal: Refusal::Forbidden,
        },
    ),
    (
        SYS_shmget,
        Argument::NoBits {
            index: 2,
            bits: SHM_HUGE,
            refusal: Refusal::Forbidden,
        },
    ),
    (
        SYS_memfd_create,
        Argument::NoBits {
            index: 1,
            bits: MEMFD_HUGE,
            refusal: Refusal::Forbidden,
        },
    ),
    // Runtimes ask for the personality, which is allowed; changing it could turn protections off.
    (
        SYS_personality,
        Argument::OneOf {
            index: 0,
            values: &[0, 0xffff_ffff],
        },
    ),
];

const FLAGS_OF_A_READ: Argument = Argument::NoBits {
    index: 5,
    bits: !HARMLESS_FLAGS,
    refusal: Refusal::Unsupported,
};

/// What a leaf may do.
pub(super) const LEAF: AllowList = AllowList {
    always: &CALLS,
    needless: NEEDLESS,
    by_argument: &[&BY_ARGUMENT],
};

/// What only a zygote may do: join namespaces (the kernel allows that for the shells below its own), and make a cgroup namespace
/// for a child.
const OF_A_ZYGOTE: [(c_long, Argument); 2] = [
    (
        SYS_setns,
        Argument::NoBits {
            index: 1,
            bits: CLONE_NEWTIME.cast_unsigned(),
            refusal: Refusal::Forbidden,
        },
    ),
    (
        SYS_unshare,
        Argument::OneOf {
            index: 0,
            values: &[CLONE_NEWCGROUP.cast_unsigned()],
        },
    ),
];

/// What a zygote may do.
pub(super) const ZYGOTE: AllowList = AllowList {
    always: &CALLS,
    needless: NEEDLESS,
    by_argument: &[&BY_ARGUMENT, &OF_A_ZYGOTE],
};
