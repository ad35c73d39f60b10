/*
 * The handover of a migrating machine, in every order: a model of both sides' daemons, hypervisors
 * and messages is run through all the states that it can come to. Daemons are killed between what
 * they record and what they do, hypervisors die at any time, connections break in the last moment,
 * and a message that was ever sent may arrive at any time, any number of times, or never.
 */
#include "tests/unit/rig.h"

#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "supervisor/handover.h"

enum guest {
	GUEST_NONE,
	GUEST_WAIT,  /* at the target: it is to come */
	GUEST_STILL, /* it is there and stands still */
	GUEST_RUN,
	GUEST_DEAD
};

enum {
	PREPARE = 1,
	COMMIT = 2,
	ABORT = 4,
	FAREWELL = 8
};

/* All that can be different; compared as bytes. */
struct world {
	unsigned char source, target;   /* the records */
	unsigned char to_do, target_do; /* what they have not done yet */
	unsigned char here, there;      /* enum guest */
	unsigned char requests, answers;
	bool prepared, begun;
	bool sending; /* the hypervisors are connected */
	bool acked;   /* the receiver has all of it */
	bool stale;   /* the guest has run at the source since */
	bool given;   /* the source wants the machine stopped */
	bool taken;   /* it is one of the target's own */
};

/* Rules that are wrong, each in one place, and that the model must find out. */
enum wrong {
	RIGHT,
	DEATH_GIVES,       /* a hypervisor that dies while it sends has given its guest */
	RESTART_KEEPS,     /* a new daemon resumes what it finds standing still */
	EARLY_FORGET,      /* the target forgets as soon as it has answered */
	IMPATIENT,         /* requests are obeyed before the one before is done */
	DROPS_WHAT_IT_HAS, /* an abort after the commit */
};

struct model {
	enum wrong wrong;
	struct world *worlds;
	size_t *parents, at; /* whose step was the first to come to each */
	bool *settles;
	size_t n, cap, *hash, nhash;
	const char *bad;
	/* For the second pass. */
	bool looking, found;
};

static size_t slot_of(const struct model *m, const struct world *w)
{
	const unsigned char *p = (const unsigned char *)w;
	size_t h = 14695981039346656037u;

	for (size_t i = 0; i < sizeof(*w); i++)
		h = (h ^ p[i]) * 1099511628211u;
	for (h &= m->nhash - 1; m->hash[h] != 0; h = (h + 1) & (m->nhash - 1))
		if (memcmp(&m->worlds[m->hash[h] - 1], w, sizeof(*w)) == 0)
			break;
	return h;
}

static void check(struct model *m, const struct world *w)
{
	if (w->here == GUEST_RUN && w->there == GUEST_RUN)
		m->bad = "it runs on both sides";
	else if (w->to_do == SOURCE_DO_DOUBT)
		m->bad = "the source is in doubt without a reason";
}

static void reach(struct model *m, const struct world *w, bool fault)
{
	size_t slot = slot_of(m, w);

	if (m->looking) {
		m->found |= !fault && m->settles[m->hash[slot] - 1];
		return;
	}
	if (m->hash[slot] != 0)
		return;
	check(m, w);
	if (m->n == m->cap) {
		m->cap *= 2;
		m->worlds = realloc(m->worlds, m->cap * sizeof(*m->worlds));
		m->parents = realloc(m->parents, m->cap * sizeof(*m->parents));
		assert_true(m->worlds != NULL && m->parents != NULL);
	}
	assert_true(m->n < m->nhash / 2);
	m->parents[m->n] = m->at;
	m->worlds[m->n++] = *w;
	m->hash[slot] = m->n;
}

/* ---- the two daemons ---- */

static void source_event(struct model *m, struct world w, enum handover_source_event ev, bool fault)
{
	struct handover_step s = handover_source_step((enum handover_source)w.source, ev);

	if (m->wrong == DEATH_GIVES && w.source == SOURCE_SENDING && ev == SOURCE_NOT_SENT &&
		w.here == GUEST_DEAD)
		s = (struct handover_step){ SOURCE_GIVING, SOURCE_DO_COMMIT };
	if (m->wrong == RESTART_KEEPS && w.source == SOURCE_GIVING && ev == SOURCE_RESTARTED)
		s = (struct handover_step){ SOURCE_KEEPING, SOURCE_DO_KEEP };
	w.source = (unsigned char)s.next;
	w.given |= s.next == SOURCE_GONE;
	if (s.action != 0)
		w.to_do = (unsigned char)s.action;
	reach(m, &w, fault);
}

static bool is_busy(const struct model *m, const struct world *w)
{
	return m->wrong != IMPATIENT && w->target_do != TARGET_DO_NOTHING;
}

static void answer(const struct model *m, struct world *w)
{
	enum handover_target t = (enum handover_target)w->target;

	w->answers |= (unsigned char)(1 << handover_target_answer(t, is_busy(m, w)));
}

static void target_event(struct model *m, struct world w, enum handover_target_event ev, bool fault)
{
	bool busy = is_busy(m, &w);
	struct handover_step s = handover_target_step((enum handover_target)w.target, ev);

	if (m->wrong == DROPS_WHAT_IT_HAS && w.target == TARGET_TAKEN && ev == TARGET_LOST)
		s = (struct handover_step){ TARGET_DROPPED, TARGET_DO_NOTHING };
	if (busy && ev >= TARGET_HEARD_PREPARE)
		s = (struct handover_step){ .next = w.target };
	w.target = (unsigned char)s.next;
	w.taken |= s.next == TARGET_TAKEN;
	if (s.action != 0)
		w.target_do = (unsigned char)s.action;
	w.prepared |= ev == TARGET_HEARD_PREPARE && s.next == TARGET_RECEIVING;
	if (ev >= TARGET_HEARD_COMMIT)
		answer(m, &w);
	if (m->wrong == EARLY_FORGET && ev == TARGET_HEARD_COMMIT && w.target == TARGET_TAKEN)
		w.target = TARGET_NONE;
	reach(m, &w, fault);
}

/* The guest at the source is about to go on, if it did not all the time. */
static void goes_on_here(struct world *w)
{
	w->stale |= w->acked;
	w->sending = false;
	w->here = GUEST_RUN;
}

static void source_does(struct model *m, struct world w)
{
	enum handover_source_action action = (enum handover_source_action)w.to_do;

	w.to_do = SOURCE_DO_NOTHING;
	switch (action) {
	case SOURCE_DO_NOTHING:
	case SOURCE_DO_DOUBT:
		return;
	case SOURCE_DO_SEND:
		w.sending = w.here == GUEST_RUN && w.there == GUEST_WAIT;
		break;
	case SOURCE_DO_COMMIT:
		w.requests |= COMMIT;
		break;
	case SOURCE_DO_KEEP:
		if (w.here != GUEST_DEAD)
			goes_on_here(&w);
		w.requests |= ABORT;
		break;
	case SOURCE_DO_END:
		w.here = GUEST_DEAD;
		w.requests |= FAREWELL;
		break;
	}
	reach(m, &w, false);
}

static void target_does(struct model *m, struct world w)
{
	enum handover_target_action action = (enum handover_target_action)w.target_do;

	w.target_do = TARGET_DO_NOTHING;
	switch (action) {
	case TARGET_DO_NOTHING:
		return;
	case TARGET_DO_RECEIVE:
		w.there = GUEST_WAIT;
		break;
	case TARGET_DO_RUN:
		if (w.there == GUEST_STILL && w.stale && !m->looking)
			m->bad = "what runs there is older than the disks";
		/* Where there is no memory the machine boots, below. */
		w.there = w.there == GUEST_STILL || w.there == GUEST_RUN ? GUEST_RUN : GUEST_DEAD;
		break;
	case TARGET_DO_END:
		w.there = GUEST_DEAD;
		break;
	}
	reach(m, &w, false);
}

/* ---- what else happens ---- */

static void hypervisors(struct model *m, const struct world *now)
{
	struct world w = *now;

	if (w.sending && w.there == GUEST_WAIT) {
		w.there = GUEST_STILL;
		w.acked = true;
		reach(m, &w, false);
		w = *now;
	}
	if (w.sending && w.acked) {
		w.sending = false;
		w.here = GUEST_STILL;
		reach(m, &w, false);
		w = *now;
	}
	if (w.sending) { /* the connection breaks, and the sender goes on by itself */
		goes_on_here(&w);
		reach(m, &w, false);
		w = *now;
	}
	if (w.here != GUEST_DEAD) {
		w.here = GUEST_DEAD;
		w.sending = false;
		reach(m, &w, true);
		w = *now;
	}
	if (w.there != GUEST_DEAD && w.there != GUEST_NONE) {
		w.there = GUEST_DEAD;
		reach(m, &w, true);
		w = *now;
	}
	/* By their policies. */
	if (w.here == GUEST_DEAD && !w.given &&
		handover_source_may_run((enum handover_source)w.source)) {
		goes_on_here(&w);
		reach(m, &w, false);
		w = *now;
	}
	if (w.there == GUEST_DEAD && w.taken &&
		handover_target_may_run((enum handover_target)w.target)) {
		w.there = GUEST_RUN;
		reach(m, &w, false);
	}
}

static void daemons(struct model *m, const struct world *now)
{
	struct world w = *now;

	source_does(m, w);
	target_does(m, w);
	w.to_do = 0;
	source_event(m, w, SOURCE_RESTARTED, true);
	w = *now;
	w.target_do = 0;
	target_event(m, w, TARGET_RESTARTED, true);
	w = *now;
	if (w.source != SOURCE_NONE)
		source_event(m, w, SOURCE_AGAIN, false);
	if (w.source == SOURCE_NONE && w.prepared && !w.begun) {
		w.begun = true;
		source_event(m, w, SOURCE_BEGIN, false);
		w = *now;
	}
	/* The sender's callback; an error, a cancel or a lost monitor can come at any time. */
	if (w.source == SOURCE_SENDING) {
		if (w.here == GUEST_STILL)
			source_event(m, w, SOURCE_SENT, false);
		source_event(m, w, SOURCE_NOT_SENT, false);
	}
	/* Its callback; and the end of its patience. */
	if (w.target == TARGET_RECEIVING && w.there == GUEST_STILL)
		target_event(m, w, TARGET_GUEST_ARRIVED, false);
	if (w.target != TARGET_NONE)
		target_event(m, w, TARGET_LOST, false);
}

static void messages(struct model *m, const struct world *w)
{
	static const struct {
		unsigned char message;
		enum handover_target_event ev;
	} requests[] = {
		{ PREPARE, TARGET_HEARD_PREPARE },
		{ COMMIT, TARGET_HEARD_COMMIT },
		{ ABORT, TARGET_HEARD_ABORT },
		{ FAREWELL, TARGET_HEARD_FAREWELL },
	};

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		/* One name, one machine: a prepare for one that is there is refused. */
		if (requests[i].message == PREPARE && w->taken)
			continue;
		if ((w->requests & requests[i].message) != 0)
			target_event(m, *w, requests[i].ev, false);
	}
	for (int a = ANSWER_UNKNOWN; a <= ANSWER_DROPPED; a++)
		if ((w->answers & 1 << a) != 0)
			source_event(m, *w, handover_heard((enum handover_answer)a), false);
}

static bool settled(const struct world *w)
{
	if (w->source != SOURCE_NONE || w->sending)
		return false;
	if (w->given)
		return w->taken && w->target == TARGET_NONE && w->there == GUEST_RUN &&
		       w->here == GUEST_DEAD;
	return !w->taken && w->here == GUEST_RUN && w->there != GUEST_RUN;
}

static void from(struct model *m, size_t i)
{
	struct world w = m->worlds[i];

	m->at = i;

	hypervisors(m, &w);
	daemons(m, &w);
	messages(m, &w);
}

/* From everywhere a way leads to one owner, without the help of another fault. */
static void look_for_ends(struct model *m)
{
	bool more = true;

	m->looking = true;
	for (size_t i = 0; i < m->n; i++)
		m->settles[i] = settled(&m->worlds[i]);
	while (more) {
		more = false;
		for (size_t i = m->n; i-- > 0;) {
			if (m->settles[i])
				continue;
			m->found = false;
			from(m, i);
			m->settles[i] = m->found;
			more |= m->found;
		}
	}
	for (size_t i = 0; i < m->n && m->bad == NULL; i++)
		if (!m->settles[i]) {
			m->bad = "it never comes to an end";
			m->at = i;
		}
}

static const char *guest_name(unsigned char g)
{
	static const char *const names[] = { "none", "waits", "still", "runs", "dead" };

	return names[g];
}

/* How it came to that, the last step first. */
static void print_way(const struct model *m)
{
	size_t i = m->at;

	for (;; i = m->parents[i]) {
		const struct world *w = &m->worlds[i];

		print_message("# %s (to do %d), guest %s; %s (to do %d), guest %s; requests %#x, "
			      "answers %#x%s%s%s%s%s\n",
			handover_source_name((enum handover_source)w->source), w->to_do,
			guest_name(w->here), handover_target_name((enum handover_target)w->target),
			w->target_do, guest_name(w->there), w->requests, w->answers,
			w->sending ? " sending" : "", w->acked ? " acked" : "",
			w->stale ? " stale" : "", w->given ? " given" : "",
			w->taken ? " taken" : "");
		if (i == 0)
			return;
	}
}

struct seen {
	size_t n;
	unsigned sources, targets;
	bool moved, kept;
};

/* What is wrong with the rules; NULL: nothing. */
static const char *explore(enum wrong wrong, struct seen *seen)
{
	struct model m = { .wrong = wrong, .cap = 1 << 12, .nhash = 1 << 20 };
	struct world first;

	memset(&first, 0, sizeof(first));
	first.here = GUEST_RUN;
	first.requests = PREPARE;
	m.worlds = calloc(m.cap, sizeof(*m.worlds));
	m.parents = calloc(m.cap, sizeof(*m.parents));
	m.hash = calloc(m.nhash, sizeof(*m.hash));
	assert_true(m.worlds != NULL && m.parents != NULL && m.hash != NULL);
	reach(&m, &first, false);
	for (size_t i = 0; i < m.n && m.bad == NULL; i++)
		from(&m, i);
	m.settles = calloc(m.n, sizeof(*m.settles));
	assert_non_null(m.settles);
	if (m.bad == NULL)
		look_for_ends(&m);
	if (m.bad != NULL && wrong == RIGHT)
		print_way(&m);
	seen->n = m.n;
	for (size_t i = 0; i < m.n; i++) {
		const struct world *w = &m.worlds[i];

		seen->sources |= 1u << w->source;
		seen->targets |= 1u << w->target;
		seen->moved |= settled(w) && w->given;
		seen->kept |= settled(w) && !w->given && w->acked;
	}
	free(m.settles);
	free(m.parents);
	free(m.worlds);
	free(m.hash);
	return m.bad;
}

static void test_one_owner(void **state)
{
	struct seen seen = { 0 };
	const char *bad = explore(RIGHT, &seen);

	if (bad != NULL)
		fail_msg("%s", bad);
	print_message("# %zu states\n", seen.n);
	assert_int_equal(seen.sources, (1 << SOURCE_STATES) - 1);
	assert_int_equal(seen.targets, (1 << TARGET_STATES) - 1);
	/* Both ends: the guest is here, or there. */
	assert_true(seen.kept && seen.moved);
}

static void test_wrong_rules(void **state)
{
	static const struct {
		enum wrong wrong;
		const char *bad;
	} rules[] = {
		{ DEATH_GIVES, "what runs there is older than the disks" },
		{ RESTART_KEEPS, "it runs on both sides" },
		{ EARLY_FORGET, "the source is in doubt without a reason" },
		{ DROPS_WHAT_IT_HAS, "it runs on both sides" },
		{ IMPATIENT, "it runs on both sides" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		struct seen seen = { 0 };
		const char *bad = explore(rules[i].wrong, &seen);

		assert_non_null(bad);
		assert_string_equal(bad, rules[i].bad);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_owner),
		cmocka_unit_test(test_wrong_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
