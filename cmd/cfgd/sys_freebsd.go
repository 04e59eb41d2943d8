package main

import "syscall"

const infoSignal = syscall.SIGINFO
