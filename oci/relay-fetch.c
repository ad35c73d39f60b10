#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/log.h"
#include "oci/cache-log.h"
#include "oci/relay-fetch.h"
#include "oci/transfer.h"

#define CONNECT_TIMEOUT_MS 20000
#define REDIRECTS_MAX      5
#define HEADER_MAX         16384
#define IDLE_MAX           8
#define STACK_SIZE         ((size_t)512 << 10)

struct fetcher {
	char *dir;
	uint64_t stall_ms;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned running;
	bool stopping;
	CURL *idle[IDLE_MAX]; /* each with its connections, so that TLS is not begun anew */
	unsigned nidle;
};

struct fetch {
	struct fetcher *fr;
	char *url, *what;
	struct curl_slist *send;
	bool head, follow;
	bool counted; /* is still to be counted */
	int count_fd;

	CURL *easy; /* the thread's */
	char curl_error[CURL_ERROR_SIZE];
	uint64_t last_ms; /* when a byte came last */
	curl_off_t last_bytes;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	unsigned holders; /* without the thread */
	bool running, cut;
	enum fetch_state state;
	struct fetch_answer answer; /* does not change any more once state is not FETCH_ASKING */
	char *location;
	int spool; /* unlinked; -1 until there is a body */
	uint64_t have;
	struct err err;
};

/* ---- what they share ---- */

int fetcher_create(struct fetcher **out, const char *spool_dir, uint64_t stall_ms, struct err *err)
{
	struct fetcher *fr = calloc(1, sizeof(*fr));

	if (fr == NULL || (fr->dir = strdup(spool_dir)) == NULL) {
		free(fr);
		return err_nomem(err);
	}
	fr->stall_ms = stall_ms;
	pthread_mutex_init(&fr->lock, NULL);
	pthread_cond_init(&fr->ended, NULL);
	*out = fr;
	return 0;
}

void fetcher_stop(struct fetcher *fr)
{
	pthread_mutex_lock(&fr->lock);
	fr->stopping = true;
	pthread_mutex_unlock(&fr->lock);
}

void fetcher_destroy(struct fetcher *fr)
{
	if (fr == NULL)
		return;
	pthread_mutex_lock(&fr->lock);
	while (fr->running > 0)
		pthread_cond_wait(&fr->ended, &fr->lock);
	pthread_mutex_unlock(&fr->lock);
	while (fr->nidle > 0)
		curl_easy_cleanup(fr->idle[--fr->nidle]);
	pthread_cond_destroy(&fr->ended);
	pthread_mutex_destroy(&fr->lock);
	free(fr->dir);
	free(fr);
}

static bool is_stopping(struct fetcher *fr)
{
	bool stopping;

	pthread_mutex_lock(&fr->lock);
	stopping = fr->stopping;
	pthread_mutex_unlock(&fr->lock);
	return stopping;
}

/* The one used last has the connection that is most likely still open. */
static CURL *take_easy(struct fetcher *fr)
{
	CURL *easy = NULL;

	pthread_mutex_lock(&fr->lock);
	if (fr->nidle > 0)
		easy = fr->idle[--fr->nidle];
	pthread_mutex_unlock(&fr->lock);
	if (easy == NULL)
		return curl_easy_init();
	curl_easy_reset(easy);
	return easy;
}

static void give_easy(struct fetcher *fr, CURL *easy)
{
	pthread_mutex_lock(&fr->lock);
	if (easy != NULL && fr->nidle < IDLE_MAX) {
		fr->idle[fr->nidle++] = easy;
		easy = NULL;
	}
	pthread_mutex_unlock(&fr->lock);
	curl_easy_cleanup(easy);
}

/* ---- holders ---- */

static void fetch_free(struct fetch *f)
{
	if (f->spool >= 0)
		close(f->spool);
	curl_slist_free_all(f->send);
	strv_finish(&f->answer.headers);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f->location);
	free(f->url);
	free(f->what);
	free(f);
}

void fetch_hold(struct fetch *f)
{
	pthread_mutex_lock(&f->lock);
	f->holders++;
	pthread_mutex_unlock(&f->lock);
}

void fetch_release(struct fetch *f)
{
	bool last;

	if (f == NULL)
		return;
	pthread_mutex_lock(&f->lock);
	f->cut = --f->holders == 0;
	last = f->cut && !f->running;
	pthread_mutex_unlock(&f->lock);
	if (last)
		fetch_free(f);
}

/* ---- the answer comes ---- */

/* Headers of one connection only (RFC 9110, section 7.6.1), and what the relay says itself. */
static bool is_end_to_end(const char *line)
{
	static const char *const not [] = { "Connection", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
		"Content-Length", "Date", "Location", "Set-Cookie", "Alt-Svc" };
	size_t len = strcspn(line, ":");

	for (size_t i = 0; i < ARRAY_LEN(not ); i++) {
		if (strlen(not [i]) == len && strncasecmp(line, not [i], len) == 0)
			return false;
	}
	return line[len] == ':';
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct fetch *f = arg;
	size_t len = size * n;
	char *line;

	/* Trailers come here too, when readers look at the headers already. */
	if (f->state != FETCH_ASKING || len >= HEADER_MAX)
		return len;
	if (len > 5 && strncmp(data, "HTTP/", 5) == 0) {
		strv_finish(&f->answer.headers);
		return len;
	}
	line = strndup(data, len);
	if (line == NULL)
		return 0;
	if (is_end_to_end(line))
		strv_add(&f->answer.headers, str_trim(line));
	free(line);
	return f->answer.headers.bad ? 0 : len;
}

/* What is asked for after its last byte has come finds it counted. */
static void count(struct fetch *f, uint64_t bytes)
{
	if (f->counted && f->answer.status == 200)
		cache_log_fetched(f->count_fd, strchr(f->what, '/'), bytes);
	f->counted = false;
}

static void tell(struct fetch *f, enum fetch_state state, uint64_t more)
{
	if (state == FETCH_DONE)
		count(f, f->have + more);
	pthread_mutex_lock(&f->lock);
	f->state = state;
	f->have += more;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static void take_answer(struct fetch *f)
{
	struct fetch_answer *a = &f->answer;
	curl_off_t length = -1;
	char *location = NULL;
	long status = 0;

	curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(f->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(f->easy, CURLINFO_REDIRECT_URL, &location);
	if (location != NULL)
		a->location = f->location = strdup(location);
	a->status = (int)status;
	a->length = length;
}

/* A file that nobody else sees and that no crash leaves behind. */
static int open_spool(const char *dir, struct err *err)
{
	char path[PATH_MAX];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	/* Not every filesystem has O_TMPFILE. */
	snprintf(path, sizeof(path), "%s/.relay-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, -errno, "a file in %s", quote(dir));
	unlink(path);
	return fd;
}

static int write_spool(struct fetch *f, const char *data, size_t len)
{
	uint64_t pos = f->have;

	if (f->spool < 0)
		f->spool = open_spool(f->fr->dir, &f->err);
	if (f->spool < 0)
		return f->err.code;
	while (len > 0) {
		ssize_t n = pwrite(f->spool, data, len, (off_t)pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(
				&f->err, n < 0 ? -errno : -EIO, "write in %s", quote(f->fr->dir));
		data += n;
		len -= (size_t)n;
		pos += (uint64_t)n;
	}
	return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct fetch *f = arg;
	size_t len = size * n;
	enum fetch_state state = f->state;
	long status = 0;

	if (write_spool(f, data, len) < 0)
		return len == 0 ? 1 : 0;
	if (state == FETCH_ASKING) {
		curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
		/* Where a redirect leads libcurl tells only at the end. */
		if (status / 100 != 3) {
			take_answer(f);
			state = FETCH_BODY;
		}
	}
	/* Who knows the length leaves with the last byte, and what is whole then is kept for others. */
	if (state == FETCH_BODY && f->answer.length >= 0 &&
		f->have + len == (uint64_t)f->answer.length)
		state = FETCH_DONE;
	tell(f, state, len);
	return len;
}

/* Called at least once a second, in whatever phase. */
static int on_progress(
	void *arg, curl_off_t total, curl_off_t bytes, curl_off_t up_total, curl_off_t up)
{
	struct fetch *f = arg;
	uint64_t now = clock_mono_ms();
	bool cut;

	if (bytes != f->last_bytes) {
		f->last_bytes = bytes;
		f->last_ms = now;
	}
	pthread_mutex_lock(&f->lock);
	cut = f->cut;
	pthread_mutex_unlock(&f->lock);
	return cut || now - f->last_ms > f->fr->stall_ms || is_stopping(f->fr);
}

/* ---- the thread ---- */

static void set_options(struct fetch *f)
{
	CURL *c = f->easy;

	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, f->curl_error);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, f->send);
	curl_easy_setopt(c, CURLOPT_NOBODY, f->head ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, f);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(
		c, CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(f->fr->stall_ms, CONNECT_TIMEOUT_MS));
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, f);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, f->follow ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
		str_starts(f->url, "https:") ? "https" : "http,https");
	if (url_is_loopback(f->url))
		curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
}

static void failed(struct fetch *f, CURLcode code)
{
	bool wanted;

	/* All has come: how the connection ends is of no interest. */
	if (f->state == FETCH_DONE)
		return;
	pthread_mutex_lock(&f->lock);
	wanted = !f->cut;
	if (f->err.code == 0 && code == CURLE_ABORTED_BY_CALLBACK)
		err_set(&f->err, -ETIMEDOUT, "nothing came for %s",
			format_duration(f->fr->stall_ms / 1000));
	else if (f->err.code == 0)
		err_set(&f->err, -EHOSTUNREACH, "%s",
			f->curl_error[0] != '\0' ? f->curl_error : curl_easy_strerror(code));
	f->state = FETCH_FAILED;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	if (wanted && !is_stopping(f->fr))
		log_warn("%s: %s", f->what, f->err.msg);
}

static void *run(void *arg)
{
	struct fetch *f = arg;
	struct fetcher *fr = f->fr;
	CURLcode code = CURLE_OUT_OF_MEMORY;
	bool last;

	f->last_ms = clock_mono_ms();
	f->easy = take_easy(fr);
	if (f->easy != NULL) {
		set_options(f);
		code = curl_easy_setopt(f->easy, CURLOPT_URL, f->url);
	}
	if (code == CURLE_OK)
		code = curl_easy_perform(f->easy);
	if (code == CURLE_OK) {
		if (f->state == FETCH_ASKING)
			take_answer(f);
		tell(f, FETCH_DONE, 0);
	} else {
		count(f, f->have);
		failed(f, code);
	}
	give_easy(fr, f->easy);
	pthread_mutex_lock(&f->lock);
	f->running = false;
	last = f->holders == 0;
	pthread_mutex_unlock(&f->lock);
	if (last)
		fetch_free(f);
	pthread_mutex_lock(&fr->lock);
	fr->running--;
	pthread_cond_signal(&fr->ended);
	pthread_mutex_unlock(&fr->lock);
	return NULL;
}

static int start_thread(struct fetch *f, struct err *err)
{
	struct fetcher *fr = f->fr;
	pthread_attr_t attr;
	pthread_t thread;
	int r = -ECANCELED;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_mutex_lock(&fr->lock);
	if (!fr->stopping)
		r = -pthread_create(&thread, &attr, run, f);
	if (r == 0)
		fr->running++;
	pthread_mutex_unlock(&fr->lock);
	pthread_attr_destroy(&attr);
	return r < 0 ? err_errno(err, r, "start a thread") : 0;
}

static int add_header(struct fetch *f, const char *line)
{
	struct curl_slist *more = curl_slist_append(f->send, line);

	if (more == NULL)
		return -ENOMEM;
	f->send = more;
	return 0;
}

int fetch_start(
	struct fetch **out, struct fetcher *fr, const struct fetch_spec *spec, struct err *err)
{
	struct fetch *f = calloc(1, sizeof(*f));
	int r = 0;

	if (f == NULL)
		return err_nomem(err);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	f->fr = fr;
	f->spool = -1;
	f->holders = 1;
	f->running = true;
	f->head = spec->head;
	f->follow = spec->follow;
	f->counted = spec->counted;
	f->count_fd = spec->count_fd;
	f->url = strdup(spec->url);
	f->what = strdup(spec->what);
	/* libcurl would say that it accepts anything; a header of that name later wins. */
	r = add_header(f, "Accept:");
	for (size_t i = 0; r == 0 && i < spec->headers->n; i++)
		r = add_header(f, spec->headers->v[i]);
	if (r < 0 || f->url == NULL || f->what == NULL)
		r = err_nomem(err);
	else
		r = start_thread(f, err);
	if (r < 0) {
		fetch_free(f);
		return r;
	}
	*out = f;
	return 0;
}

/* ---- readers ---- */

int fetch_answer(struct fetch *f, const struct fetch_answer **out, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&f->lock);
	while (f->state == FETCH_ASKING)
		pthread_cond_wait(&f->changed, &f->lock);
	if (f->answer.status == 0) {
		*err = f->err;
		r = f->err.code;
	} else {
		*out = &f->answer;
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

ssize_t fetch_read(struct fetch *f, uint64_t pos, char *data, size_t max)
{
	uint64_t have;
	bool cut;
	ssize_t n;

	pthread_mutex_lock(&f->lock);
	while (f->have <= pos && f->state < FETCH_DONE)
		pthread_cond_wait(&f->changed, &f->lock);
	have = f->have;
	cut = f->state == FETCH_FAILED;
	pthread_mutex_unlock(&f->lock);
	if (have <= pos)
		return cut ? -EPIPE : 0;
	do
		n = pread(f->spool, data, MIN(max, have - pos), (off_t)pos);
	while (n < 0 && errno == EINTR);
	return n > 0 ? n : -EIO;
}

enum fetch_state fetch_state(struct fetch *f, int *status, uint64_t *bytes)
{
	enum fetch_state state;

	pthread_mutex_lock(&f->lock);
	state = f->state;
	if (status != NULL)
		*status = state != FETCH_ASKING ? f->answer.status : 0;
	if (bytes != NULL)
		*bytes = f->have;
	pthread_mutex_unlock(&f->lock);
	return state;
}
