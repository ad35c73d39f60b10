/* What a registry says of how it wants to be asked, and the answers of token services. */
#include <stdlib.h>
#include <string.h>
#include "oci/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = strndup((const char *)data, len);
	struct auth_challenge c;
	struct buf url = { 0 }, token = { 0 };
	struct err err;

	if (auth_challenge_parse(text, &c, &err) == 0 && c.scheme == AUTH_BEARER) {
		if (auth_token_url(&c, "a/b", &url, &err) < 0)
			abort();
		if (strncmp(buf_str(&url), "http", 4) != 0)
			abort();
	}
	/* It becomes a line of a request. */
	if (auth_token_parse((const char *)data, len, &token, &err) == 0 &&
		strpbrk(buf_str(&token), "\r\n") != NULL)
		abort();
	buf_finish(&url);
	buf_finish(&token);
	free(text);
	return 0;
}
