/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conductor starts the players A and B, puts scripts on the board and waits until they are played. It serves one
 * client (`stage.py`) on its standard streams:
 *
 *   begin NAME=VALUE...     starts A and B, with this in their environment     ok | broken WHY
 *   play COUNT [SECONDS]    COUNT lines follow, one step each, none longer     INDEX OUTCOME... then ok | broken WHY
 *   end                     ends all processes                                 ok | broken WHY
 *
 * A step: `run|start P T TEXT`, `direct P T TEXT`, `collect N`, `watch N`, `settle N`, `greet P`, `sleep MS`,
 * `kill P NUMBER`, `gone P`, `nothing`; P a process and T a thread by number, N a step by its index in the script. TEXT may hold {N}: the private part
 * of that step's outcome. All that is played between `begin` and `end` is played by the same two processes: a sitting.
 *
 * Whether a step blocks is not a matter of time but of state: its thread sleeps in the kernel, and has not run between
 * two looks some time apart. One that waits for a processor under load is not asleep, so it is waited for.
 */
#include "tests/conformance/board.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	STEP_MS = 8000,	     /* no step takes longer, where the client does not say otherwise */
	END_MS = 3000,	     /* nor the end of all processes */
	LOOK_US = 300,	     /* between two looks at a thread */
	SETTLE_US = 30,	     /* for one that was woken */
	ASLEEP_US = 1500,    /* so long, it has not run */
	RESTLESS_US = 500000, /* one that never lies still */
	HIGH_FD = 503,	     /* where no other allocation of a player gets */
};

static struct board *board;
static const char *folder, *player;
static char board_path[256];
static uint32_t script;
static struct {
	int pid, pidfd;
	bool child; /* ours, not reaped yet */
} known[BOARD_PROCESSES];
static uint32_t greeted[BOARD_PROCESSES];
static char why[512];
static int step_ms = STEP_MS;

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static bool broken(const char *text)
{
	if (!*why)
		snprintf(why, sizeof why, "%.500s", text);
	return false;
}

/* ---- processes -------------------------------------------------------------------------------------------------- */

static void note_status(int status)
{
	char text[64];
	bool fine = WIFEXITED(status) ? WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 7 : WTERMSIG(status) == SIGKILL;
	if (fine)
		return;
	snprintf(text, sizeof text, "a player ended by %s %d", WIFEXITED(status) ? "status" : "signal",
		WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	broken(text);
}

/* Takes note of who has said hello since. */
static void know(unsigned p)
{
	int pid = atomic_load(&board->processes[p].pid);
	if (!pid || known[p].pid == pid)
		return;
	if (known[p].pidfd > 0)
		close(known[p].pidfd);
	known[p].pid = pid;
	known[p].pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	known[p].child = false;
}

/* Waits at most `ms` for the end of a process; has it ended? */
static bool ended(unsigned p, int ms)
{
	know(p);
	struct pollfd look = {known[p].pidfd, POLLIN, 0};
	if (known[p].pidfd <= 0)
		return known[p].pid != 0;
	uint64_t end = now_us() + (uint64_t)ms * 1000;
	int ready;
	while ((ready = poll(&look, 1, ms)) < 0 && errno == EINTR && now_us() < end)
		;
	int status;
	if (ready == 1 && known[p].child && waitpid(known[p].pid, &status, WNOHANG) > 0) {
		known[p].child = false;
		note_status(status);
	}
	return ready == 1;
}

/* The table of descriptors grows to its full size while there is one thread. Later it would take a grace period of the kernel's,
 * tens of milliseconds, in whatever call needs a high number first. */
static void expand_table(void)
{
	struct rlimit limit;
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < 1 << 20)
		close(fcntl(0, F_DUPFD, (int)limit.rlim_cur - 1));
}

static void become_player(const char *name, int end, char **assignments, int count)
{
	char inherited[32];
	int null = open("/dev/null", O_RDWR), errors;
	char path[300];
	snprintf(path, sizeof path, "%s/stderr", folder);
	errors = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(null, 0);
	dup2(null, 1);
	dup2(errors, 2);
	int high = HIGH_FD + (*name - 'A');
	dup2(end, high);
	close_range(3, HIGH_FD - 1, 0);
	expand_table();
	snprintf(inherited, sizeof inherited, "u=%d", high);
	for (int i = 0; i < count; i++)
		putenv(assignments[i]);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(player, player, board_path, name, inherited, NULL);
	_exit(127);
}

static bool await_hello(unsigned p, uint32_t wanted)
{
	for (uint64_t start = now_us(); atomic_load(&board->processes[p].hellos) < wanted;) {
		uint32_t seen = atomic_load(&board->bell);
		if (atomic_load(&board->processes[p].hellos) >= wanted)
			break;
		bell_wait(&board->bell, seen, 20000);
		if (known[p].child && ended(p, 0))
			return broken("a player has ended at once");
		if (now_us() - start > STEP_MS * 1000ull)
			return broken("a player has not started");
	}
	return true;
}

static bool begin(char **assignments, int count)
{
	static const char *const names[] = {"A", "B"};
	int ends[2];
	*why = '\0';
	for (int p = 0; p < BOARD_PROCESSES; p++)
		if (known[p].pidfd > 0)
			close(known[p].pidfd);
	memset(known, 0, sizeof known);
	memset(greeted, 0, sizeof greeted);
	memset(board->processes, 0, sizeof board->processes);
	atomic_store(&board->turn, BOARD_IDLE);
	atomic_store(&board->over, 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return broken("socketpair");
	for (unsigned p = 0; p < 2; p++) {
		int pid = fork();
		if (pid == 0)
			become_player(names[p], ends[p], assignments, count);
		known[p].pid = pid;
		known[p].pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		known[p].child = true;
	}
	close(ends[0]);
	close(ends[1]);
	for (unsigned p = 0; p < 2; p++)
		if (!await_hello(p, ++greeted[p]))
			return false;
	return true;
}

static bool finish(void)
{
	atomic_store(&board->over, 1);
	for (unsigned p = 0; p < BOARD_PROCESSES; p++)
		if (atomic_load(&board->processes[p].pid))
			bell_ring(&board->processes[p].bell);
	uint64_t end = now_us() + END_MS * 1000ull;
	for (unsigned p = 0; p < BOARD_PROCESSES; p++) {
		know(p);
		uint64_t now = now_us();
		if (!known[p].pid || ended(p, now < end ? (int)((end - now) / 1000) : 0))
			continue;
		if (!*why) {
			char text[64];
			snprintf(text, sizeof text, "process %c does not end", 'A' + p);
			broken(text);
		}
		syscall(SYS_pidfd_send_signal, known[p].pidfd, SIGKILL, NULL, 0);
		known[p].child = known[p].child && waitpid(known[p].pid, NULL, 0) < 0;
	}
	return !*why;
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

static bool read_proc(unsigned p, int tid, const char *what, char *text, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task/%d/%s", known[p].pid, tid, what);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* Does the thread sleep, and how often has it had a processor? */
static bool asleep(unsigned p, int tid, char *runs, size_t size)
{
	char text[512];
	if (!tid || !read_proc(p, tid, "schedstat", runs, size) || !read_proc(p, tid, "stat", text, sizeof text))
		return false;
	const char *state = strrchr(text, ')');
	return state && state[1] && (state[2] == 'S' || state[2] == 'D');
}

/* Has whoever plays the step had the processor that it was woken for, if it was? */
static const char *settle(const struct board_step *step)
{
	const struct board_step *of = &board->steps[step->of];
	char runs[128];
	know(of->process);
	if (atomic_load(&of->state) == STEP_DONE || asleep(of->process, atomic_load(&of->tid), runs, sizeof runs))
		return "";
	return NULL;
}

static struct {
	uint64_t begun, still;
	char runs[128];
} watching;

/* What there is to say of the step that is watched; NULL: not yet. */
static const char *watch(const struct board_step *step)
{
	const struct board_step *of = &board->steps[step->of];
	char runs[128];
	uint64_t now = now_us();
	if (!watching.begun)
		watching.begun = now;
	if (atomic_load(&of->state) == STEP_DONE)
		return "does not block";
	know(of->process);
	if (!asleep(of->process, atomic_load(&of->tid), runs, sizeof runs) || strcmp(runs, watching.runs)) {
		watching.still = 0;
		snprintf(watching.runs, sizeof watching.runs, "%s", runs);
	}
	if (!watching.still)
		watching.still = now;
	if (now - watching.still < ASLEEP_US && now - watching.begun < RESTLESS_US)
		return NULL;
	return atomic_load(&of->state) == STEP_DONE ? "does not block" : "blocks";
}

/* A step that is the conductor's own. */
static const char *host(const struct board_step *step)
{
	const char *text = board->text + step->text;
	int number = 0;
	if (sscanf(text, "sleep %d", &number) == 1)
		usleep((useconds_t)number * 1000);
	else if (sscanf(text, "kill %d", &number) == 1 && (know(step->process), known[step->process].pidfd > 0))
		syscall(SYS_pidfd_send_signal, known[step->process].pidfd, number, NULL, 0);
	else if (!strcmp(text, "gone"))
		return ended(step->process, step_ms) ? "gone" : "still there";
	return "";
}

/* The step that step `index` is about: itself, or another. */
static uint32_t about(uint32_t index)
{
	const struct board_step *step = &board->steps[index];
	return step->kind == STEP_COLLECT || step->kind == STEP_WATCH || step->kind == STEP_SETTLE ? step->of : index;
}

/* Steps that will never end by themselves, as their process has: done. False: one has not even begun. */
static bool bury(uint32_t turn)
{
	uint32_t index = turn & 0xffff;
	const struct board_step *step = &board->steps[index];
	uint32_t of = about(index);
	const struct board_step *target = &board->steps[of];
	if (step->kind == STEP_GREET || step->kind == STEP_HOST || !ended(target->process, 0) ||
		atomic_load(&board->turn) != turn || atomic_load(&target->state) == STEP_DONE)
		return true;
	if (atomic_load(&target->state) == STEP_WAITING) {
		char text[256];
		snprintf(text, sizeof text, "%c has ended before: %.200s", 'A' + target->process, board->text + target->text);
		return broken(text);
	}
	board_done(board, turn, of, "process has ended");
	if (of == index)
		board_advance(board, turn);
	return true;
}

static bool hangs(uint32_t index)
{
	uint32_t of = about(index);
	char text[300];
	snprintf(text, sizeof text, "%c%.0u: %.200s: hangs; TIMEOUT after %d s", 'A' + board->steps[of].process,
		board->steps[of].thread, board->text + board->steps[of].text, step_ms / 1000);
	return broken(text);
}

/* Plays what is on the board. */
static bool play(void)
{
	uint32_t last = 0;
	uint64_t since = now_us(), looked = since;
	script++;
	atomic_store(&board->turn, script << 16);
	for (;;) {
		uint32_t seen = atomic_load(&board->bell), turn = atomic_load(&board->turn), index = turn & 0xffff;
		uint64_t now = now_us();
		if (index >= board->count)
			return !*why;
		if (index != last) {
			last = index;
			since = now;
			memset(&watching, 0, sizeof watching);
		}
		const struct board_step *step = &board->steps[index];
		const char *outcome = step->kind == STEP_HOST ? host(step) : step->kind == STEP_WATCH ? watch(step) :
			step->kind == STEP_SETTLE ? settle(step) : NULL;
		if (outcome) {
			board_done(board, turn, index, outcome);
			board_advance(board, turn);
			continue;
		}
		if (now - looked > 20000) {
			looked = now;
			if (!bury(turn))
				return false;
		}
		if (now - since > (uint64_t)step_ms * 1000)
			return hangs(index);
		bell_wait(&board->bell, seen, step->kind == STEP_SETTLE ? SETTLE_US : step->kind == STEP_WATCH ? LOOK_US : 20000);
	}
}

/* Puts one step on the board. */
static bool put(uint32_t index, const char *line)
{
	static const struct {
		const char *word;
		enum step_kind kind;
	} kinds[] = {{"run", STEP_RUN}, {"start", STEP_START}, {"direct", STEP_DIRECT}, {"collect", STEP_COLLECT},
		{"watch", STEP_WATCH}, {"settle", STEP_SETTLE}, {"greet", STEP_GREET}, {"kill", STEP_HOST}, {"gone", STEP_HOST}, {"sleep", STEP_HOST},
		{"nothing", STEP_HOST}};
	struct board_step *step = &board->steps[index];
	char word[16] = "", text[4096] = "";
	unsigned first = 0, second = 0;
	int rest = 0;
	sscanf(line, "%15s %u %n%u %n", word, &first, &rest, &second, &rest);
	memset(step, 0, sizeof *step);
	size_t i = 0;
	while (i < sizeof kinds / sizeof *kinds && strcmp(kinds[i].word, word))
		i++;
	if (i == sizeof kinds / sizeof *kinds)
		return broken(line);
	step->kind = (uint8_t)kinds[i].kind;
	if (step->kind == STEP_COLLECT || step->kind == STEP_WATCH || step->kind == STEP_SETTLE) {
		step->of = (uint16_t)first;
		step->process = board->steps[first].process;
	} else if (step->kind == STEP_HOST) {
		step->process = (uint8_t)(*word == 's' ? 0 : first);
		snprintf(text, sizeof text, "%s %u", word, *word == 's' ? first : second);
		if (*word == 'g')
			snprintf(text, sizeof text, "gone");
	} else if (step->kind == STEP_GREET) {
		step->process = (uint8_t)first;
		step->wanted = ++greeted[first];
	} else {
		step->process = (uint8_t)first;
		step->thread = (uint8_t)second;
		snprintf(text, sizeof text, "%s", line + rest);
	}
	if (first >= BOARD_STEPS || step->process >= BOARD_PROCESSES || step->thread >= BOARD_THREADS)
		return broken(line);
	size_t length = strlen(text) + 1;
	step->text = atomic_fetch_add(&board->used, (uint32_t)length);
	memcpy(board->text + step->text, text, length);
	return true;
}

static bool read_script(unsigned count)
{
	char line[4096];
	bool fine = count < BOARD_STEPS || broken("too long");
	*why = '\0';
	atomic_store(&board->turn, BOARD_IDLE);
	atomic_store(&board->used, 1);
	for (unsigned i = 0; i < count && fgets(line, sizeof line, stdin); i++) {
		line[strcspn(line, "\n")] = '\0';
		fine = fine && put(i, line);
	}
	board->count = count;
	return fine;
}

static void tell(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (atomic_load(&board->steps[i].state) == STEP_DONE)
			printf("%u %s\n", i, board->text + atomic_load(&board->steps[i].outcome));
}

static void on_child(int number)
{
	(void)number;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: conductor FOLDER PLAYER\n");
		return 2;
	}
	folder = argv[1];
	player = argv[2];
	snprintf(board_path, sizeof board_path, "%s/board", folder);
	int fd = open(board_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(struct board)) || close(fd) || !(board = board_map(board_path)))
		return 1;
	board->conductor = (int32_t)getpid();
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	struct sigaction interrupt = {.sa_handler = on_child, .sa_flags = SA_RESTART}; /* waits with a limit end all the same */
	sigaction(SIGCHLD, &interrupt, NULL);

	char line[4096];
	while (fgets(line, sizeof line, stdin)) {
		char *words[32];
		int count = 0;
		for (char *save, *word = strtok_r(line, " \n", &save); word && count < 32; word = strtok_r(NULL, " \n", &save))
			words[count++] = word;
		if (!count)
			continue;
		bool fine;
		if (!strcmp(words[0], "begin")) {
			fine = begin(words + 1, count - 1);
		} else if (!strcmp(words[0], "play")) {
			uint32_t steps = count > 1 ? (uint32_t)atoi(words[1]) : 0;
			step_ms = count > 2 ? atoi(words[2]) * 1000 : STEP_MS;
			fine = read_script(steps) && play();
			tell(steps);
		} else {
			fine = finish();
		}
		printf(fine ? "ok\n" : "broken %s\n", why);
		fflush(stdout);
	}
	finish();
	return 0;
}
