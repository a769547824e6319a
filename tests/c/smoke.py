"""libepoch.so through ctypes: what a foreign language sees of it. smoke.py LIBRARY"""
import ctypes as c
import os
import sys

lib = c.CDLL(sys.argv[1])


class Pin(c.Structure):
    _fields_ = [("participant", c.c_void_p), ("epoch", c.c_uint64), ("data", c.c_void_p), ("size", c.c_size_t)]


class Current(c.Structure):
    _fields_ = [("epoch", c.c_uint64), ("token", c.c_uint64), ("data", c.c_void_p), ("size", c.c_size_t)]


class Join(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("name", c.c_char_p), ("voter", c.c_uint32),
                ("acknowledges_by_hand", c.c_uint32), ("window", c.c_uint32), ("reserved", c.c_uint32)]


lib.epoch_error_message.restype = lib.epoch_code_name.restype = lib.epoch_version.restype = c.c_char_p
for name in ("epoch_error_message", "epoch_error_cause", "epoch_error_free", "epoch_region_free", "epoch_participant_free"):
    getattr(lib, name).argtypes = [c.c_void_p]


def call(function, *arguments, expect="OK"):
    error = c.c_void_p(1)
    code = getattr(lib, function)(*arguments, c.byref(error))
    name, message = lib.epoch_code_name(code).decode(), lib.epoch_error_message(error).decode()
    assert name == expect, f"{function}: {name}: {message}"
    assert (error.value is None) == (code == 0)
    lib.epoch_error_free(error)
    return message


name = f"c-{os.getpid()}-py".encode()
region, me, epoch, pin = c.c_void_p(), c.c_void_p(), c.c_uint64(), Pin()
print(lib.epoch_version().decode())
try:
    call("epoch_region_open_or_create", name, None, c.byref(region))
    call("epoch_participant_join", region, c.byref(Join(c.sizeof(Join), b"python")), c.byref(me))
    call("epoch_participant_commit", me, b"hello", c.c_size_t(5), None, c.byref(epoch))
    assert epoch.value == 1

    @c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(Current), c.c_void_p)
    def shout(user, current, draft):
        state = c.string_at(current.contents.data, current.contents.size).upper()
        return lib.epoch_draft_assign(c.c_void_p(draft), state, c.c_size_t(len(state)), None)

    call("epoch_participant_update", me, shout, None, None, c.byref(epoch))
    call("epoch_participant_pin", me, c.byref(pin))
    assert c.string_at(pin.data, pin.size) == b"HELLO" and pin.epoch == 2
    assert "pin" in call("epoch_participant_leave", me, expect="FAILED_PRECONDITION")
    assert lib.epoch_pin_release(c.byref(pin)) == 0
    call("epoch_participant_leave", me)
    lib.epoch_participant_free(me)
    lib.epoch_region_free(region)
    call("epoch_participant_poll", me, None, expect="INVALID_ARGUMENT")
finally:
    call("epoch_region_unlink", name)
