/* SPDX-License-Identifier: BSD-2-Clause */
/* The words for enum nn_reason: logs, reports and `notnets stat` all say the same. */
#include "shim/core/state.h"

static const char *const texts[] = {
	[NN_REASON_NONE] = "up",
	[NN_REASON_SHORT] = "too short so far",
	[NN_REASON_SEARCHING] = "looking for the peer's shim",
	[NN_REASON_NO_PEER] = "peer has no shim",
	[NN_REASON_VERSION] = "peer has another version",
	[NN_REASON_UNPROVEN] = "peer could not be proven",
	[NN_REASON_NO_MEMORY] = "no shared memory",
	[NN_REASON_NO_FDS] = "no descriptors left",
	[NN_REASON_SHARED] = "socket shared with another process",
	[NN_REASON_OPTION] = "socket option needs TCP",
	[NN_REASON_OOB] = "urgent data needs TCP",
	[NN_REASON_PASSED] = "down: fd passed away",
	[NN_REASON_EXEC] = "down: fd inherited by another program",
	[NN_REASON_CALL] = "down: call needs TCP",
	[NN_REASON_PEER] = "down: peer asked for it",
	[NN_REASON_PEER_CLOSED] = "down: peer has closed",
	[NN_REASON_SELF] = "connected to itself",
	[NN_REASON_NOT_READY] = "peer not ready yet",
	[NN_REASON_UNSUPPORTED] = "not plain TCP",
	[NN_REASON_CHAOS] = "down: by chance, for tests",
	[NN_REASON_STALLED] = "down: ring full, peer does not read",
};
_Static_assert(sizeof(texts) / sizeof(texts[0]) == NN_REASONS, "every reason needs its words");

const char *state_reason_text(unsigned reason)
{
	return reason < NN_REASONS && texts[reason] ? texts[reason] : "unknown";
}
