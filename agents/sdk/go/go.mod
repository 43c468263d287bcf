module portcall

go 1.21
