"""Everything that a program can see of itself, as a flat dictionary: `look()` names each thing and asks for it.

What is a number by nature and no state (addresses, inodes, counters, times) is left out or replaced by `N` here, each with its
reason; what then still differs between two kinds of start is a difference that a program can see.
"""

import os
import re
import sys

ENTRIES = {}


def tells(name):
    def keep(function):
        ENTRIES[name] = function
        return function

    return keep


def look():
    told = {}
    for name, ask in ENTRIES.items():
        try:
            value = ask()
        except BaseException as error:
            value = "%s: %s" % (type(error).__name__, error)
        if isinstance(value, dict):
            for key in value:
                told["%s.%s" % (name, key)] = plain(value[key])
        else:
            told[name] = plain(value)
    return told


def plain(value):
    """As JSON has it; objects by their type, since their addresses say nothing."""
    if isinstance(value, (str, int, float, type(None))):
        return value if isinstance(value, (int, float, type(None))) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("latin-1")
    if isinstance(value, dict):
        return [[plain(key), plain(value[key])] for key in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=str)
    if isinstance(value, (list, tuple)):
        return list(map(plain, value))
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def read(path):
    with open(path, "rb") as file:
        return file.read().decode("latin-1")


def numbers_out(text):
    return re.sub(r"\d+", "N", text)


def outcome(action):
    try:
        return action()
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)


@tells("folder")
def folder():
    return {
        "name": os.getcwd(),
        "list": sorted(os.listdir(".")),
        "same": os.path.samefile(".", "/handler"),
        "data": outcome(lambda: read("data.txt")),
        "link": os.readlink("/proc/self/cwd"),
        "root": os.readlink("/proc/self/root"),
        "mode": oct(os.stat(".").st_mode),
        "beside": outcome(lambda: __import__("beside").__file__),
    }


@tells("python")
def python():
    import __main__

    names = [name for name in dir(sys.flags) if not name.startswith(("_", "n_", "count", "index"))]
    return {
        "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", None),
        "flags": list(sys.flags),
        "flags by name": {name: getattr(sys.flags, name) for name in names},
        "executable": sys.executable,
        "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],
        "path": sys.path,
        "path_importer_cache": sorted(sys.path_importer_cache),
        "listings": {
            path: sorted(getattr(finder, "_path_cache", ()))
            for path, finder in sorted(sys.path_importer_cache.items()) if path.startswith("/handler")
        },
        "path_hooks": sys.path_hooks,
        "meta_path": sys.meta_path,
        "main": sorted(vars(__main__)),
        "warnoptions": sys.warnoptions,
        "xoptions": sys._xoptions,
        "filters": sys.modules["warnings"].filters if "warnings" in sys.modules else __import__("warnings").filters,
        "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(),
        "dlopen": sys.getdlopenflags(),
        "builtins": sorted(vars(__import__("builtins"))),
        "names of sys": sorted(set(vars(sys)) - {"last_exc", "last_type", "last_value", "last_traceback"}),
        "encodings": [sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()],
        "hooks": [sys.excepthook, sys.displayhook, sys.breakpointhook, sys.unraisablehook, sys.gettrace(), sys.getprofile()],
        "thread_info": list(sys.thread_info),
        "bytecode": [sys.dont_write_bytecode, sys.pycache_prefix],
        "faulthandler": __import__("faulthandler").is_enabled(),
        "atexit": __import__("atexit")._ncallbacks(),
    }


@tells("modules")
def modules():
    return {name: getattr(sys.modules[name], "__file__", None) for name in sorted(AT_START)}


AT_START = set(sys.modules)


@tells("the runtime's classes")
def runtime_classes():
    # Those of files that only some starts read would show how this one went.
    return sorted(c.__qualname__ for c in object.__subclasses__() if c.__module__.startswith("_ol_"))


@tells("entry")
def entry():
    frame, stack = sys._getframe(), []
    while frame:
        stack.append([frame.f_code.co_filename, frame.f_code.co_name])
        frame = frame.f_back
    module = sys.modules["f"]
    names = ("__name__", "__file__", "__package__", "__spec__", "__loader__", "__cached__", "__doc__")
    return {"stack": stack, "module": {name: getattr(module, name, None) for name in names}}


@tells("streams")
def streams():
    told = {}
    for name in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
        stream = getattr(sys, name)
        about = ["name", "mode", "encoding", "errors", "line_buffering", "write_through", "newlines", "closed"]
        told[name] = [
            type(stream).__name__, stream.fileno(), stream.isatty(), [getattr(stream, key, None) for key in about],
            type(stream.buffer).__name__, stream is getattr(sys, name.strip("_")),
        ]
    return told


@tells("descriptors")
def descriptors():
    import fcntl

    told = {}
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        path = "/proc/self/fd/%d" % number
        if not os.path.lexists(path):  # of the listing itself
            continue
        info = dict(line.split(":", 1) for line in read("/proc/self/fdinfo/%d" % number).splitlines())
        told[number] = [
            numbers_out(os.readlink(path)), fcntl.fcntl(number, fcntl.F_GETFD), fcntl.fcntl(number, fcntl.F_GETFL),
            fcntl.fcntl(number, fcntl.F_GETOWN), oct(os.fstat(number).st_mode), info["pos"].strip(), info["flags"].strip(),
            sorted(info),
        ]
    return told


@tells("environment")
def environment():
    return {"os": dict(os.environ), "at the program's start": read("/proc/self/environ"), "C": outcome(c_environment)}


def c_environment():
    import ctypes

    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    told = []
    while environ[len(told)] is not None:
        told.append(environ[len(told)].decode("latin-1"))
    return told


@tells("signals")
def signals():
    import signal

    return {
        "handlers": {number: signal.getsignal(number) for number in sorted(signal.valid_signals())},
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "pending": sorted(map(int, signal.sigpending())),
        "wakeup": signal.set_wakeup_fd(-1),
        "timers": [signal.getitimer(which) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
    }


@tells("ids")
def ids():
    mask = os.umask(0o77)
    os.umask(mask)
    return {
        "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "pid": os.getpid(), "parent": os.getppid(),
        "group": os.getpgid(0), "session": os.getsid(0), "umask": oct(mask),
        "home": [os.path.expanduser("~"), outcome(lambda: list(__import__("pwd").getpwuid(os.getuid())))],
    }


@tells("schedule")
def schedule():
    return {
        "nice": os.getpriority(os.PRIO_PROCESS, 0), "policy": os.sched_getscheduler(0), "priority": list(os.sched_getparam(0)),
        "cpus": sorted(os.sched_getaffinity(0)), "cpu_count": os.cpu_count(),
    }


@tells("limits")
def limits():
    import resource

    return {name: list(resource.getrlimit(getattr(resource, name))) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")}


@tells("sysconf")
def sysconf():
    # How much memory is free changes by the moment.
    names = sorted(set(os.sysconf_names) - {"SC_AVPHYS_PAGES"})
    return {name: outcome(lambda: os.sysconf(name)) for name in names}


@tells("threads")
def threads():
    import threading

    main = threading.main_thread()
    return {
        "python": [[thread.name, thread.daemon, type(thread).__name__] for thread in threading.enumerate()],
        "main": [main.name, main.ident == threading.get_ident(), getattr(main, "native_id", 0) == threading.get_native_id()],
        "kernel": len(os.listdir("/proc/self/task")),
        "stack": threading.stack_size(),
    }


@tells("time")
def time_():
    import time

    clocks = [name for name in sorted(dir(time)) if name.startswith("CLOCK_")]
    return {
        "zone": [time.tzname, time.timezone, time.altzone, time.daylight, time.strftime("%Z"), list(time.localtime(0))],
        "resolution": {name: outcome(lambda: time.clock_getres(getattr(time, name))) for name in clocks},
        "kinds": {name: vars(time.get_clock_info(name)) for name in ("time", "monotonic", "perf_counter", "process_time")},
        "offsets": outcome(lambda: read("/proc/self/timens_offsets")),
    }


@tells("locale")
def locale_():
    import locale

    return {
        "categories": locale.setlocale(locale.LC_ALL, None), "locale": locale.getlocale(),
        "encoding": locale.getpreferredencoding(False), "conventions": locale.localeconv(),
    }


@tells("temporary")
def temporary():
    import tempfile

    before = tempfile.tempdir
    return {"before": before, "folder": tempfile.gettempdir(), "names": tempfile._name_sequence}


@tells("terminal")
def terminal():
    told = {number: outcome(lambda: os.ttyname(number)) for number in range(3)}
    told["tty"] = outcome(lambda: open("/dev/tty"))
    told["size"] = outcome(lambda: os.get_terminal_size(1))
    told["foreground"] = outcome(lambda: os.tcgetpgrp(0))
    return told


@tells("places")
def places():
    told = {"proc": sorted(name for name in os.listdir("/proc") if not name.isdigit())}
    told["processes"] = sorted(name for name in os.listdir("/proc") if name.isdigit())
    for path in ("/", "/dev", "/dev/shm", "/tmp", "/host", "/packages", "/handler", "/etc", "/home", "/run", "/var"):
        told[path] = outcome(lambda: sorted(os.listdir(path)))
        told["stat of " + path] = outcome(lambda: about(path))
        # Free space changes by the moment where the file system is the host's.
        told["space of " + path] = outcome(lambda: [getattr(os.statvfs(path), key) for key in ("f_bsize", "f_blocks", "f_files", "f_flag", "f_namemax")])
    return told


def about(path):
    stat = os.stat(path)
    return [oct(stat.st_mode), stat.st_uid, stat.st_gid, stat.st_nlink]


@tells("mounts")
def mounts():
    lines = []
    for line in read("/proc/self/mountinfo").splitlines():
        before, after = line.split(" - ")
        fields = before.split()
        # Numbers of the mount, its parent, its device and its peers; the folder on the host's disk; the sandbox's own uid.
        fields = [fields[4], fields[5], [re.sub(r"\d+", "N", field) for field in fields[6:]]]
        lines.append([*fields, re.sub(r"(uid|gid)=\d+", r"\1=N", after)])
    return {"in order": [line[0] for line in lines], "each": sorted(map(str, lines))}


# What counts, or is a number of the kernel's or of this sandbox's alone.
COUNTERS = re.compile(
    r"Vm|Rss|Hugetlb|voluntary_ctxt|nonvoluntary_ctxt|Cpus_allowed_list|Mems_allowed|SigQ|NStgid|NSpid|NSpgid|NSsid"
)


@tells("status")
def status():
    told = {}
    for line in read("/proc/self/status").splitlines():
        key, _, value = line.partition(":")
        if not COUNTERS.match(key):
            told[key] = value.strip()
        elif key == "SigQ":
            told["SigQ, the limit"] = value.partition("/")[2]
        elif key.startswith("NS"):
            told[key] = value.strip()
    return told


@tells("process")
def process():
    told = {}
    for name in (
        "comm", "cmdline", "cgroup", "oom_score_adj", "coredump_filter", "personality", "loginuid", "sessionid", "timerslack_ns",
        "setgroups", "cpuset", "limits", "attr/current", "timers", "projid_map",
    ):
        told[name] = outcome(lambda: read("/proc/self/" + name))
    for name in ("uid_map", "gid_map", "autogroup"):
        # Which uids of the host's and which group of the scheduler's are this sandbox's alone.
        told[name] = outcome(lambda: numbers_out(re.sub(" +", " ", read("/proc/self/" + name))))
    told["exe"] = os.readlink("/proc/self/exe")
    told["names"] = sorted(os.listdir("/proc/self"))
    told["ns"] = sorted(os.listdir("/proc/self/ns"))
    told["mapped"] = sorted({line.split(None, 5)[5] for line in read("/proc/self/maps").splitlines() if len(line.split(None, 5)) > 5})
    stat = read("/proc/self/stat").rpartition(")")[2].split()
    # Fields 5 to 8 of proc(5): the group, the session, the terminal and its foreground group; 18 to 20 priorities and threads.
    told["stat"] = stat[2:6] + stat[15:18]
    return told


@tells("auxiliary")
def auxiliary():
    import struct

    data, told = open("/proc/self/auxv", "rb").read(), {}
    # Addresses, which are random: AT_PHDR, AT_BASE, AT_ENTRY, AT_RANDOM, AT_EXECFN, AT_PLATFORM, AT_SYSINFO_EHDR, AT_RSEQ…
    addresses = {3, 7, 9, 15, 24, 25, 31, 33}
    for key, value in struct.iter_unpack("LL", data):
        told[key] = "an address" if key in addresses else value
    return told


@tells("controls")
def controls():
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    value, name = ctypes.c_int(-1), ctypes.create_string_buffer(16)
    told = {}
    for what, number in (("death signal", 2), ("subreaper", 37), ("tsc", 25), ("unaligned", 5), ("fp", 11)):
        value.value = -1
        told[what] = [libc.prctl(number, ctypes.byref(value), 0, 0, 0), value.value]
    libc.prctl(16, name, 0, 0, 0)
    told["name"] = name.value
    for what, number in (
        ("dumpable", 3), ("keep capabilities", 7), ("timing", 13), ("securebits", 27), ("timer slack", 30), ("no new privileges", 39),
        ("no huge pages", 42), ("io flusher", 58), ("write or execute", 66), ("memory merge", 68),
    ):
        told[what] = libc.prctl(number, 0, 0, 0, 0)
    told["speculation"] = [libc.prctl(52, which, 0, 0, 0) for which in range(3)]
    told["bounding"] = [libc.prctl(23, capability, 0, 0, 0) for capability in range(41)]
    told["io priority"] = libc.syscall(252, 1, 0)
    told["keyring"] = libc.syscall(250, 0, -3, 0)
    told["personality"] = libc.syscall(135, 0xFFFFFFFF)
    return told


@tells("collector")
def collector():
    import gc

    return {"on": gc.isenabled(), "thresholds": gc.get_threshold(), "debug": gc.get_debug(), "callbacks": len(gc.callbacks),
            "garbage": len(gc.garbage), "frozen": gc.get_freeze_count() > 0}


@tells("machine")
def machine():
    import platform
    import socket

    return {
        "uname": list(os.uname()), "platform": platform.platform(), "host": socket.gethostname(),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "timeout": socket.getdefaulttimeout(),
    }


@tells("libraries")
def libraries():
    import asyncio
    import decimal
    import linecache
    import logging
    import multiprocessing

    return {
        "logging": [logging.root.level, logging.root.handlers, logging.raiseExceptions, sorted(logging.root.manager.loggerDict)],
        "multiprocessing": [multiprocessing.get_start_method(), multiprocessing.current_process().name, multiprocessing.parent_process()],
        "asyncio": asyncio._get_running_loop() is None,
        "decimal": str(decimal.getcontext()),
        "linecache": sorted(linecache.cache),
        "exit": outcome(lambda: [type(exit).__name__, type(help).__name__, type(license).__name__]),
    }
