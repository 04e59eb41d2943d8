package main

import "syscall"

// infoSignal is SIGUSR1 where there is no SIGINFO.
const infoSignal = syscall.SIGUSR1
