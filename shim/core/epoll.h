/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SHIM_CORE_EPOLL_H
#define SHIM_CORE_EPOLL_H

#include "shim/core/stream.h"

/* A direction of the stream has moved, or is about to be ready: its registrations are adapted. */
void epoll_stream_moved(struct nn_stream *stream);
/* Something was done to the stream here that readiness depends on. */
void epoll_stream_touched(struct nn_stream *stream);
/* May the stream leave the kernel's epoll sets to us? */
bool epoll_stream_can_move(struct nn_stream *stream);
/* The last descriptor is closed: its registrations are gone from the kernel. */
void epoll_stream_gone(struct nn_stream *stream);
/* The epoll descriptor of this index is closed, shown to others, or inherited by a fork child. */
void epoll_set_closed(uint32_t set);
void epoll_set_exposed(uint32_t set);
void epoll_set_duplicated(uint32_t set);
void epoll_fork_child(void);
/* Does the kernel keep every registration of the set as the application made it? */
bool epoll_set_is_plain(uint32_t set);

#endif
