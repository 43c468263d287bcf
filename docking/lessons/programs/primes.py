"""Adds up primes. It says nothing about stations: whoever holds it may stop it anywhere."""

import portcall

END = 6000


def is_prime(number):
    for divisor in range(2, number):
        if number % divisor == 0:
            return False
    return True


def add_up(end):
    total = 0
    for number in range(2, end):
        if is_prime(number):
            total += number
    return total


portcall.log("counting")
portcall.report("total", add_up(END))
portcall.report("ended at", portcall.here())
