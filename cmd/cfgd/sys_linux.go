package main

import "syscall"

// infoSignal is SIGUSR1, because Linux has no SIGINFO.
const infoSignal = syscall.SIGUSR1
