"""Make hard negatives: mine them from the corpus or let an LM write them, and decide which ones are kept.

    mine(collection, pairs, encoder, MineConfig())         → Mined({"3": [MinedNegative("d9", …), …]}, …)
    write(assignment, gating, writer, progress)            → [Draft(pair, HardNegative("Shut …"), GateVerdict("")), …]
    text_gates(negative, context, GatesConfig())           → GateVerdict("copies a positive", .82, .3, …)

Training is in `syneg.training`, the verdict in `syneg.verdict`.
"""
