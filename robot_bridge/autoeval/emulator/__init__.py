"""AutoEval as it answers on the wire, with its own quirks, over simulated WidowX cells.

An adapter that works against this works against the real one: it is the adapter's conformance test and ships
as `gymnastd autoeval-emulator`. Nothing here is used to talk to the real AutoEval.
"""
