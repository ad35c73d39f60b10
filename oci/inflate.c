/*
 * One producer, one consumer, four slots. Inflating is what takes the time; the consumer's work
 * (untar, hashing, writing) hides behind it on the second core.
 */
#include "oci/inflate.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "lib/str.h"
#include "oci/decode.h"

#define SLOTS     4
#define SLOT_SIZE (256 * 1024)

struct slot {
	size_t len;
	bool end; /* of the layer; nothing is in it then */
	int code; /* 0, or the error with which the producer ended */
	struct err err;
	uint8_t *data;
};

struct inflate {
	const struct layer_src *layers;
	size_t n;
	uint64_t total;
	_Atomic uint64_t taken;

	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned head, tail; /* slots filled and slots given back, ever */
	atomic_bool stop;
	struct slot slots[SLOTS];

	/* The consumer's. */
	size_t layer;
	bool holding; /* the caller reads slots[tail] */
	EVP_MD_CTX *md;
	bool hashing;
};

/* A free slot, or NULL when the consumer wants no more. */
static struct slot *slot_take(struct inflate *in)
{
	struct slot *s;

	pthread_mutex_lock(&in->lock);
	while (!in->stop && in->head - in->tail == SLOTS)
		pthread_cond_wait(&in->changed, &in->lock);
	s = in->stop ? NULL : &in->slots[in->head % SLOTS];
	pthread_mutex_unlock(&in->lock);
	if (s != NULL) {
		s->len = 0;
		s->end = false;
		s->code = 0;
	}
	return s;
}

static void slot_publish(struct inflate *in)
{
	pthread_mutex_lock(&in->lock);
	in->head++;
	pthread_cond_signal(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

/* Returns false when there is nothing more to do: stopped, or failed (and said so in a slot). */
static bool produce_layer(struct inflate *in, const struct layer_src *src)
{
	struct decode *d = NULL;
	struct err err = { 0 };
	struct slot *s;
	bool more = false;
	int fd = src->fd, r = 0;

	if (src->path != NULL) {
		fd = open(src->path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			r = err_errno(&err, -errno, "open %s", quote(src->path));
	} else if (lseek(fd, 0, SEEK_SET) < 0 && errno != ESPIPE)
		r = err_errno(&err, -errno, "rewind");
	if (r == 0)
		r = decode_create_fed(&d, fd, src->feed, &in->stop, &in->taken, &err);
	while ((s = slot_take(in)) != NULL) {
		if (r == 0)
			r = decode_read(d, s->data, SLOT_SIZE, &s->len, &err);
		if (r < 0) {
			s->code = r;
			s->err = err;
			slot_publish(in);
			break;
		}
		more = s->end = s->len == 0;
		slot_publish(in);
		if (more)
			break;
	}
	decode_destroy(d);
	if (src->path != NULL && fd >= 0)
		close(fd);
	return more;
}

static void *produce(void *arg)
{
	struct inflate *in = arg;

	for (size_t i = 0; i < in->n; i++) {
		if (!produce_layer(in, &in->layers[i]))
			break;
	}
	return NULL;
}

static uint64_t total_size(const struct layer_src *layers, size_t n)
{
	uint64_t total = 0;
	struct stat st;

	for (size_t i = 0; i < n; i++) {
		if (layers[i].feed != NULL)
			total += layers[i].feed->size;
		else if ((layers[i].path != NULL ? stat(layers[i].path, &st)
						 : fstat(layers[i].fd, &st)) == 0 &&
			 S_ISREG(st.st_mode))
			total += st.st_size;
	}
	return total;
}

int inflate_start(struct inflate **out, const struct layer_src *layers, size_t n, struct err *err)
{
	struct inflate *in = calloc(1, sizeof(*in));
	int r;

	if (in == NULL)
		return err_nomem(err);
	in->layers = layers;
	in->n = n;
	in->total = total_size(layers, n);
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->changed, NULL);
	in->md = EVP_MD_CTX_new();
	for (size_t i = 0; i < SLOTS; i++) {
		in->slots[i].data = malloc(SLOT_SIZE);
		if (in->slots[i].data == NULL || in->md == NULL) {
			inflate_stop(in);
			return err_nomem(err);
		}
	}
	r = -pthread_create(&in->thread, NULL, produce, in);
	if (r < 0) {
		inflate_stop(in);
		return err_errno(err, r, "start a thread for inflating");
	}
	in->running = true;
	*out = in;
	return 0;
}

static void give_back(struct inflate *in)
{
	pthread_mutex_lock(&in->lock);
	in->tail++;
	in->holding = false;
	pthread_cond_signal(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

static struct slot *await(struct inflate *in)
{
	struct slot *s;

	pthread_mutex_lock(&in->lock);
	while (in->head == in->tail)
		pthread_cond_wait(&in->changed, &in->lock);
	s = &in->slots[in->tail % SLOTS];
	pthread_mutex_unlock(&in->lock);
	in->holding = true;
	return s;
}

static int hash_begin(struct inflate *in, const char *diff_id, struct err *err)
{
	const char *colon = strchr(diff_id, ':');
	const EVP_MD *type = NULL;

	if (colon != NULL && strncmp(diff_id, "sha256:", 7) == 0)
		type = EVP_sha256();
	else if (colon != NULL && strncmp(diff_id, "sha512:", 7) == 0)
		type = EVP_sha512();
	if (type == NULL)
		return err_set(err, -ENOTSUP, "diff_id %s: unknown kind of digest", quote(diff_id));
	if (EVP_DigestInit_ex(in->md, type, NULL) != 1)
		return err_nomem(err);
	in->hashing = true;
	return 0;
}

static int hash_end(struct inflate *in, const char *diff_id, struct err *err)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
	unsigned n = 0;

	in->hashing = false;
	EVP_DigestFinal_ex(in->md, sum, &n);
	for (unsigned i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	if (strcmp(hex, strchr(diff_id, ':') + 1) != 0)
		return err_set(err, -EBADMSG, "unpacked it has the digest %.*s%s, not %s",
			(int)(strchr(diff_id, ':') + 1 - diff_id), diff_id, hex, quote(diff_id));
	return 0;
}

int inflate_next(struct inflate *in, const void **data, size_t *len, struct err *err)
{
	const char *diff_id = in->layers[in->layer].diff_id;
	struct slot *s;
	int r;

	if (in->holding)
		give_back(in);
	if (diff_id != NULL && !in->hashing) {
		r = hash_begin(in, diff_id, err);
		if (r < 0)
			return r;
	}
	s = await(in);
	if (s->code < 0) {
		/* The thread has ended: the slot is kept, so that a further call fails as well. */
		in->holding = false;
		if (err != NULL)
			*err = s->err;
		return s->code;
	}
	if (s->end) {
		give_back(in);
		r = in->hashing ? hash_end(in, diff_id, err) : 0;
		in->layer++;
		return r;
	}
	if (in->hashing)
		EVP_DigestUpdate(in->md, s->data, s->len);
	*data = s->data;
	*len = s->len;
	return 1;
}

int inflate_drain(struct inflate *in, struct err *err)
{
	const void *data;
	size_t len;
	int r;

	do {
		r = inflate_next(in, &data, &len, err);
	} while (r > 0);
	return r;
}

uint64_t inflate_done(struct inflate *in)
{
	return atomic_load_explicit(&in->taken, memory_order_relaxed);
}

uint64_t inflate_total(const struct inflate *in)
{
	return in->total;
}

void inflate_stop(struct inflate *in)
{
	if (in == NULL)
		return;
	if (in->running) {
		pthread_mutex_lock(&in->lock);
		in->stop = true;
		pthread_cond_signal(&in->changed);
		pthread_mutex_unlock(&in->lock);
		for (size_t i = 0; i < in->n; i++) {
			if (in->layers[i].feed != NULL)
				feed_wake(in->layers[i].feed);
		}
		pthread_join(in->thread, NULL);
	}
	for (size_t i = 0; i < SLOTS; i++)
		free(in->slots[i].data);
	EVP_MD_CTX_free(in->md);
	pthread_mutex_destroy(&in->lock);
	pthread_cond_destroy(&in->changed);
	free(in);
}
