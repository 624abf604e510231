/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs that libc starts: posix_spawn, popen, system. The child is cloned inside libc and makes system calls that nobody
 * sees, so what it gets must be fit for it before: sockets that are inherited anyway, and those that the file actions copy,
 * which may be close-on-exec.
 *
 * File actions are libc's own. Its list of them has not changed since posix_spawn came, but for new kinds at the end; struct action
 * is that. Whether it is still so is tried out once, with actions made for it. Where it is not, every stream counts as copied.
 */
#include "shim/preload/preload.h"

#include <spawn.h>
#include <stdlib.h>
#include <string.h>

/* struct __spawn_action of glibc's posix/spawn_int.h. */
struct action {
	enum { DO_CLOSE, DO_DUP2, DO_OPEN } tag;
	union {
		struct {
			int fd;
		} close;
		struct {
			int fd, to;
		} dup2;
		struct {
			int fd;
			char *path;
			int flags;
			mode_t mode;
		} open;
	};
};

static const struct action *action_at(const posix_spawn_file_actions_t *actions, int number)
{
	return (const struct action *)actions->__actions + number;
}

static bool try_layout(void)
{
	posix_spawn_file_actions_t trial;
	if (posix_spawn_file_actions_init(&trial))
		return false;
	bool same = !posix_spawn_file_actions_addopen(&trial, 11, "/", 12, 13) && !posix_spawn_file_actions_adddup2(&trial, 14, 15) &&
		    !posix_spawn_file_actions_addclose(&trial, 16) && trial.__used == 3 && trial.__actions;
	if (same) {
		const struct action *open = action_at(&trial, 0), *dup2 = action_at(&trial, 1), *close = action_at(&trial, 2);
		same = open->tag == DO_OPEN && open->open.fd == 11 && dup2->tag == DO_DUP2 && dup2->dup2.fd == 14 &&
		       dup2->dup2.to == 15 && close->tag == DO_CLOSE && close->close.fd == 16;
	}
	posix_spawn_file_actions_destroy(&trial);
	return same;
}

static bool layout_known(void)
{
	enum { UNKNOWN, SAME, OTHER };
	static _Atomic int layout;
	if (layout == UNKNOWN)
		layout = try_layout() ? SAME : OTHER;
	return layout == SAME;
}

/* Has one of the first `count` actions made something else of the number? */
static bool replaced(const posix_spawn_file_actions_t *actions, int count, int fd)
{
	for (int i = 0; i < count; i++) {
		const struct action *action = action_at(actions, i);
		if ((action->tag == DO_CLOSE && action->close.fd == fd) || (action->tag == DO_DUP2 && action->dup2.to == fd) ||
			(action->tag == DO_OPEN && action->open.fd == fd))
			return true;
	}
	return false;
}

static void spawn_begins(const posix_spawn_file_actions_t *actions)
{
	if (!nn_fds || nn_in_vfork_child())
		return;
	int saved = errno;
	nn_spawning();
	if (actions && actions->__used > 0 && !layout_known()) {
		nn_inheriting_any();
	} else if (actions) {
		for (int i = 0; i < actions->__used; i++) {
			const struct action *action = action_at(actions, i);
			if (action->tag == DO_DUP2 && is_tracked(action->dup2.fd) && !replaced(actions, i, action->dup2.fd))
				nn_inheriting(action->dup2.fd);
		}
	}
	errno = saved;
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
	const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	spawn_begins(actions);
	return real.posix_spawn(pid, path, actions, attributes, argv, envp);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
	const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	spawn_begins(actions);
	return real.posix_spawnp(pid, file, actions, attributes, argv, envp);
}

/* New in glibc 2.39; its headers may not have them. */
int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
	char *const argv[], char *const envp[]);
int pidfd_spawnp(int *pidfd, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
	char *const argv[], char *const envp[]);

static int pidfd_spawned(int *pidfd, int error)
{
	if (!error && pidfd)
		appeared(*pidfd);
	return error;
}

EXPORT int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
	const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	spawn_begins(actions);
	return pidfd_spawned(pidfd, real.pidfd_spawn(pidfd, path, actions, attributes, argv, envp));
}

EXPORT int pidfd_spawnp(int *pidfd, const char *file, const posix_spawn_file_actions_t *actions,
	const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	spawn_begins(actions);
	return pidfd_spawned(pidfd, real.pidfd_spawnp(pidfd, file, actions, attributes, argv, envp));
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	spawn_begins(NULL);
	FILE *file = real.popen(command, mode);
	if (file && nn_fds)
		appeared(fileno_unlocked(file));
	return file;
}
ALIAS(_IO_popen, popen);

EXPORT int system(const char *command)
{
	spawn_begins(NULL);
	return real.system(command);
}
ALIAS(__libc_system, system);
