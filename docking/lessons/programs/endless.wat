;; Computes for ever, and calls nobody who could stop it.
(module (func (export "run") (loop $again (br $again))))
