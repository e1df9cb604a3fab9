//! The module as Python sees it, by means of a few names of Python's stable interface (3.9 and newer).

use core::ffi::{c_char, c_int, c_long, c_void};
use core::ptr::{null, null_mut};

#[repr(C)]
pub struct Definition {
    references: isize,
    kind: *mut c_void,
    init: *mut c_void,
    index: isize,
    copy: *mut c_void,
    name: *const c_char,
    doc: *const c_char,
    size: isize,
    methods: *mut Method,
    slots: *mut c_void,
    traverse: *mut c_void,
    clear: *mut c_void,
    free: *mut c_void,
}

#[repr(C)]
pub struct Method {
    name: *const c_char,
    function: Option<extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void>,
    flags: c_int,
    doc: *const c_char,
}

/// `METH_O`: the function takes one argument, passed directly.
const ONE_ARGUMENT: c_int = 8;
/// The version of the stable interface.
const STABLE: c_int = 3;

unsafe extern "C" {
    fn PyModule_Create2(definition: *mut Definition, version: c_int) -> *mut c_void;
    fn PyLong_AsLong(object: *mut c_void) -> c_long;
    fn PyLong_FromLong(value: c_long) -> *mut c_void;
    fn PySys_GetObject(name: *const c_char) -> *mut c_void;
    fn PyStructSequence_GetItem(sequence: *mut c_void, index: isize) -> *mut c_void;
    fn PyStructSequence_SetItem(sequence: *mut c_void, index: isize, value: *mut c_void);
    pub fn PyOS_BeforeFork();
    pub fn PyOS_AfterFork_Parent();
    pub fn PyOS_AfterFork_Child();
}

extern "C" fn serve(_module: *mut c_void, channel: *mut c_void) -> *mut c_void {
    // SAFETY: Python calls with its lock held and a valid object.
    let channel = unsafe { PyLong_AsLong(channel) };
    if channel < 0 {
        return null_mut(); // the exception is set
    }
    let role = super::serve(channel as c_int);
    // SAFETY: as above.
    unsafe { PyLong_FromLong(role) }
}

/// `clear_flag(index)`: if the flag at this place in `sys.flags` is 1, sets it to 0; returns the old value.
extern "C" fn clear_flag(_module: *mut c_void, index: *mut c_void) -> *mut c_void {
    // SAFETY: Python calls with its lock held and a valid object. `sys.flags` is a structure sequence that has this place, or reading it
    // fails. Its items are small integers, of which Python always keeps one object each, so replacing one frees nothing.
    unsafe {
        let index = PyLong_AsLong(index) as isize;
        let flags = PySys_GetObject(c"flags".as_ptr());
        let was = if (0..15).contains(&index) && !flags.is_null() {
            PyLong_AsLong(PyStructSequence_GetItem(flags, index))
        } else {
            -1
        };
        if was == 1 {
            PyStructSequence_SetItem(flags, index, PyLong_FromLong(0));
        }
        PyLong_FromLong(was)
    }
}

static mut METHODS: [Method; 3] = [
    Method {
        name: c"clear_flag".as_ptr(),
        function: Some(clear_flag),
        flags: ONE_ARGUMENT,
        doc: null(),
    },
    Method {
        name: c"serve".as_ptr(),
        function: Some(serve),
        flags: ONE_ARGUMENT,
        doc: null(),
    },
    Method {
        name: null(),
        function: None,
        flags: 0,
        doc: null(),
    },
];

static mut DEFINITION: Definition = Definition {
    references: 1,
    kind: null_mut(),
    init: null_mut(),
    index: 0,
    copy: null_mut(),
    name: c"_ol_forker".as_ptr(),
    doc: null(),
    size: -1,
    methods: null_mut(),
    slots: null_mut(),
    traverse: null_mut(),
    clear: null_mut(),
    free: null_mut(),
};

/// The function that Python calls at import.
#[unsafe(no_mangle)]
pub extern "C" fn PyInit__ol_forker() -> *mut c_void {
    // SAFETY: called once, under Python's lock; both statics live as long as the process.
    unsafe {
        DEFINITION.methods = (&raw mut METHODS).cast();
        PyModule_Create2(&raw mut DEFINITION, STABLE)
    }
}
