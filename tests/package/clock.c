/*
 * A stand-in for a kernel that was told its clock is right. The clock is the one of the machine around, whose kernel is
 * told by nobody where a hypervisor keeps it; a throw-away machine may not tell it either. Loaded by LD_PRELOAD.
 *
 * adjtimex(2): reading changes nothing and returns the state, which is TIME_ERROR while STA_UNSYNC is set. Setting is
 * left to the kernel, which refuses it there.
 */
#include <sys/syscall.h>
#include <sys/timex.h>
#include <unistd.h>

__attribute__((visibility("default"))) int adjtimex(struct timex *told) {
    int state = (int)syscall(SYS_adjtimex, told);
    if (state != TIME_ERROR)
        return state;
    told->status &= ~STA_UNSYNC;
    return TIME_OK;
}
