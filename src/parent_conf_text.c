/* SPDX-License-Identifier: ISC */
/*
 * Guards libconfuse: says what is wrong with the form of a configuration text, and blanks it.
 * Runs in: parent
 *
 * Theory of operation. libconfuse accepts a section that is left open at the end of a file, replaces ${NAME} from the environment,
 * drops characters that it does not know, lets a later value or service replace an earlier one in silence, counts lines wrongly
 * around comments, and stops at its first error. So the text is read twice: here, into tokens and then statements, where all of this
 * is an error with its line; and by libconfuse, which gets a copy that has only statements left which are whole and known.
 * The copy has the same lines, hence libconfuse's line numbers are true.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_text.h"

#include <stdlib.h>
#include <string.h>

#include "parent_conf_key.h"

enum token_type { TOKEN_END, TOKEN_WORD, TOKEN_STRING, TOKEN_PUNCT };

struct token {
	enum token_type type;
	char punct;			/* one of { } ( ) = , or '+' for += */
	size_t begin, end;		/* in text, quotes included */
	int line;
};

struct guard {
	struct conf_draft *draft;
	const char *name;		/* of the file */
	char *text;			/* the copy */
	size_t len, pos;
	int line;
	struct token token;		/* the one looked at */
	unsigned depth;			/* of blocks */
	bool broken;			/* a syntax error: the rest cannot be understood */
};

/* Nothing of ours nests deeper than two; a bound keeps a hostile text off the stack's end. */
#define DEPTH_MOST 16

static void
guard_error(struct guard *guard, int line, const char *text)
{
	struct conf_where where = { guard->name, line, NULL };

	draft_error(guard->draft, &where, EXIT_CMDLINE, "%s", text);
	guard->broken = true;
}

/* Makes blanks of a part that libconfuse must not see; lines stay. */
static void
blank(struct guard *guard, size_t begin, size_t end)
{
	size_t i;

	for (i = begin; i < end; i++)
		if (guard->text[i] != '\n')
			guard->text[i] = ' ';
}

/* Skips "#...", "//..." and block comments. False when there is none at pos, or one that is never closed. */
static bool
skip_comment(struct guard *guard)
{
	const char *p = guard->text + guard->pos, *close;
	size_t begin = guard->pos, end;

	if (p[0] == '#' || (p[0] == '/' && p[1] == '/')) {
		end = begin + strcspn(p, "\n");
	} else if (p[0] == '/' && p[1] == '*') {
		close = strstr(p + 2, "*/");
		if (close == NULL) {
			guard_error(guard, guard->line, "this comment is never closed");
			return false;
		}
		end = (size_t)(close + 2 - guard->text);
	} else {
		return false;
	}
	for (; guard->pos < end; guard->pos++)
		if (guard->text[guard->pos] == '\n')
			guard->line++;
	blank(guard, begin, end);
	return true;
}

static void
skip_blanks(struct guard *guard)
{
	while (!guard->broken) {
		char c = guard->text[guard->pos];

		if (c == '\n')
			guard->line++;
		if (c == '\n' || c == ' ' || c == '\t')
			guard->pos++;
		else if (!skip_comment(guard))
			return;
	}
}

/* A string ends on its line and knows two escapes, so that a forgotten quote is found where it is missing. */
static void
read_string(struct guard *guard)
{
	char quote = guard->text[guard->pos];
	size_t i;

	for (i = guard->pos + 1; guard->text[i] != quote; i++) {
		if (guard->text[i] == '\n' || guard->text[i] == '\0') {
			guard_error(guard, guard->line, "this string is never closed");
			return;
		}
		if (guard->text[i] == '$' && guard->text[i + 1] == '{') {
			guard_error(guard, guard->line, "${...} is not replaced here: write the value itself");
			return;
		}
		if (guard->text[i] == '\\' && guard->text[++i] != quote && guard->text[i] != '\\') {
			guard_error(guard, guard->line, "unknown escape in this string; only a quote and a backslash are escaped");
			return;
		}
	}
	guard->pos = i + 1;
}

static void
read_word(struct guard *guard)
{
	size_t begin = guard->pos;

	while (guard->text[guard->pos] > ' ' && guard->text[guard->pos] < 0x7f &&
	    strchr("\"'#{}()=,+*", guard->text[guard->pos]) == NULL) {
		if (guard->text[guard->pos] == '$' && guard->text[guard->pos + 1] == '{') {
			guard_error(guard, guard->line, "${...} is not replaced here: write the value itself");
			return;
		}
		guard->pos++;
	}
	if (guard->pos == begin)
		guard_error(guard, guard->line, "a character that is only allowed within quotes");
	else if (strchr("+*", guard->text[guard->pos]) != NULL && guard->text[guard->pos] != '\0' && guard->text[guard->pos + 1] != '=')
		guard_error(guard, guard->line, "a character that is only allowed within quotes");
}

/* Looks at the next token. After a syntax error there is only TOKEN_END. */
static void
next_token(struct guard *guard)
{
	struct token *token = &guard->token;
	char c;

	skip_blanks(guard);
	*token = (struct token){ TOKEN_END, 0, guard->pos, guard->pos, guard->line };
	if (guard->broken || guard->pos >= guard->len)
		return;
	c = guard->text[guard->pos];
	if (strchr("{}()=,", c) != NULL) {
		token->type = TOKEN_PUNCT;
		token->punct = c;
		guard->pos++;
	} else if (c == '+' && guard->text[guard->pos + 1] == '=') {
		token->type = TOKEN_PUNCT;
		token->punct = '+';
		guard->pos += 2;
	} else if (c == '"' || c == '\'') {
		token->type = TOKEN_STRING;
		read_string(guard);
	} else {
		token->type = TOKEN_WORD;
		read_word(guard);
	}
	token->end = guard->pos;
	if (guard->broken)
		token->type = TOKEN_END;
}

static bool
is_punct(const struct guard *guard, char punct)
{
	return guard->token.type == TOKEN_PUNCT && guard->token.punct == punct;
}

static bool
is_atom(const struct guard *guard)
{
	return guard->token.type == TOKEN_WORD || guard->token.type == TOKEN_STRING;
}

static bool
expect(struct guard *guard, bool there, const char *text)
{
	if (!there && !guard->broken)
		guard_error(guard, guard->token.line, text);
	return there;
}

/* What a word or string stands for, allocated. */
static char *
token_text(const struct guard *guard)
{
	const struct token *token = &guard->token;
	bool quoted = token->type == TOKEN_STRING;
	const char *p = guard->text + token->begin + (quoted ? 1 : 0), *end = guard->text + token->end - (quoted ? 1 : 0);
	char *text = draft_grow(NULL, (size_t)(end - p), 1), *out = text;

	while (p < end) {
		if (quoted && *p == '\\')
			p++;
		*out++ = *p++;
	}
	*out = '\0';
	return text;
}

/* The value after "=": an atom, or atoms in braces. *braces says which. Ends at the token after it. */
static void
read_value(struct guard *guard, bool *braces)
{
	int line = guard->token.line;

	*braces = is_punct(guard, '{');
	if (!*braces) {
		if (expect(guard, is_atom(guard), "a value is missing here"))
			next_token(guard);
		return;
	}
	next_token(guard);
	while (is_atom(guard)) {
		next_token(guard);
		if (!is_punct(guard, ','))
			break;
		next_token(guard);
	}
	if (guard->token.type == TOKEN_END)
		expect(guard, false, "the file ends within a list");
	if (!guard->broken && !is_punct(guard, '}')) {
		guard->token.line = line;
		expect(guard, false, "this list lacks a comma or a closing brace");
	}
	next_token(guard);
}

/* For struct conf_seen. */
static uint64_t
key_bit(const struct conf_key *key)
{
	return UINT64_C(1) << (key - conf_keys);
}

/* KEY = VALUE or KEY += LIST; the token is the one after KEY. False: leave this statement out. */
static bool
read_setting(struct guard *guard, const char *name, int line, unsigned scope, struct conf_seen *seen)
{
	const struct conf_key *key = conf_key_find(name, scope);
	struct conf_where where = { guard->name, line, NULL };
	bool append = is_punct(guard, '+'), braces;
	int equals = guard->token.line;

	guard->token.line = line;
	if (!expect(guard, append || is_punct(guard, '='), "'=' is missing after the key"))
		return false;
	next_token(guard);
	/* A bare word on a later line is the next statement: the value was forgotten. */
	if (guard->token.type == TOKEN_WORD && guard->token.line != equals) {
		guard_error(guard, equals, "a value is missing here");
		return false;
	}
	read_value(guard, &braces);
	if (guard->broken || (key == NULL && scope == 0))
		return false;
	if (key == NULL) {
		draft_error(guard->draft, &where, EXIT_CMDLINE, "unknown key '%s'%s", name,
		    conf_key_find(name, KEY_TOP | KEY_SERVICE) == NULL ? "" :
		    scope == KEY_TOP ? ": it belongs into a service" : ": it belongs outside of services");
		return false;
	}
	if (!key->list && (braces || append)) {
		draft_error(guard->draft, &where, EXIT_CMDLINE, "%s: takes one value, not a list", name);
		return false;
	}
	if ((seen->keys & key_bit(key)) != 0 && !append) {
		draft_error(guard->draft, &where, EXIT_CMDLINE, "%s: is set a second time", name);
		return false;
	}
	seen->keys |= key_bit(key);
	return true;
}

/* include("PATTERN"...); the token is the one after the name. */
static bool
read_include(struct guard *guard, int line, unsigned scope)
{
	struct conf_where where = { guard->name, line, NULL };

	if (!expect(guard, is_punct(guard, '('), "'(' is missing after include"))
		return false;
	next_token(guard);
	if (!expect(guard, is_atom(guard), "include needs a file name"))
		return false;
	next_token(guard);
	if (!expect(guard, is_punct(guard, ')'), "')' is missing after the file name"))
		return false;
	next_token(guard);
	if (guard->broken)
		return false;
	if (scope == KEY_SERVICE)
		draft_error(guard->draft, &where, EXIT_CMDLINE, "include: does not work within a service");
	return scope == KEY_TOP;
}

/* Statements of one block up to its '}', which stays the token; each bad one becomes blanks. Scope 0: known to be bad, say no more. */
static void read_block(struct guard *guard, unsigned scope, struct conf_seen *seen);

/* Adds the service; false when it is a duplicate or its name is none. */
static bool
admit_service(struct guard *guard, const char *title, int line)
{
	struct conf_where where = { guard->name, line, NULL };
	const struct draft_service *other = draft_service_find(guard->draft, title);
	char place[512];

	if (conf_key_check_service(guard->draft, title, &where) == -1)
		return false;
	if (other == NULL) {
		draft_service_add(guard->draft, title, &where);
		return true;
	}
	draft_where_text(&other->where, place, sizeof(place));
	place[strlen(place) > 2 ? strlen(place) - 2 : 0] = '\0';
	draft_error(guard->draft, &where, EXIT_CMDLINE, "there is a service '%s' already, at %s", title, place);
	return false;
}

/* service NAME { ... }; the token is the one after "service". */
static bool
read_service(struct guard *guard, unsigned scope)
{
	struct conf_where where = { guard->name, guard->token.line, NULL };
	struct conf_seen seen = { 0 };
	bool good = false;
	char *title;
	int open;

	if (!expect(guard, is_atom(guard), "a service needs a name"))
		return false;
	title = token_text(guard);
	next_token(guard);
	open = guard->token.line;
	if (expect(guard, is_punct(guard, '{'), "'{' is missing after the name of the service")) {
		if (scope == KEY_TOP)
			good = admit_service(guard, title, where.line);
		else if (scope == KEY_SERVICE)
			guard_error(guard, where.line, "a service within a service; is a '}' missing above?");
		next_token(guard);
		read_block(guard, KEY_SERVICE, &seen);
		if (guard->token.type == TOKEN_END && !guard->broken)
			guard_error(guard, open, "this '{' is never closed");
		next_token(guard);
	}
	good = good && !guard->broken;
	if (good)
		draft_service_find(guard->draft, title)->written = true;
	free(title);
	return good;
}

/* NAME TITLE { ... } or NAME { ... } of a kind that does not exist. */
static bool
read_unknown_section(struct guard *guard, const char *name, int line, unsigned scope)
{
	struct conf_where where = { guard->name, line, NULL };
	struct conf_seen seen = { 0 };

	if (is_atom(guard))
		next_token(guard);
	if (!expect(guard, is_punct(guard, '{'), "'=' is missing after the key"))
		return false;
	if (scope != 0)
		draft_error(guard->draft, &where, EXIT_CMDLINE, "unknown section '%s'", name);
	next_token(guard);
	read_block(guard, 0, &seen);
	if (guard->token.type == TOKEN_END && !guard->broken)
		guard_error(guard, line, "this section is never closed");
	next_token(guard);
	return false;
}

static bool
read_statement(struct guard *guard, unsigned scope, struct conf_seen *seen)
{
	int line = guard->token.line;
	char *name;
	bool good;

	if (!expect(guard, guard->token.type == TOKEN_WORD, is_punct(guard, '}') ? "this '}' closes nothing" : "a key is expected here"))
		return false;
	name = token_text(guard);
	next_token(guard);
	if (strcmp(name, "service") == 0)
		good = read_service(guard, scope);
	else if (strcmp(name, "include") == 0)
		good = read_include(guard, line, scope);
	else if (conf_key_find(name, KEY_TOP | KEY_SERVICE) == NULL && (is_punct(guard, '{') || is_atom(guard)))
		good = read_unknown_section(guard, name, line, scope);
	else
		good = read_setting(guard, name, line, scope, seen);
	free(name);
	return good;
}

static void
read_block(struct guard *guard, unsigned scope, struct conf_seen *seen)
{
	if (++guard->depth > DEPTH_MOST && !guard->broken)
		guard_error(guard, guard->token.line, "blocks are nested too deeply");
	while (!guard->broken && guard->token.type != TOKEN_END && (scope == KEY_TOP || !is_punct(guard, '}'))) {
		size_t begin = guard->token.begin, end;

		if (!read_statement(guard, scope, seen)) {
			end = guard->broken || guard->token.type == TOKEN_END ? guard->len : guard->token.begin;
			blank(guard, begin, end);
		}
	}
	guard->depth--;
}

/* Bytes that no configuration has; also says so of what was no text at all. */
static bool
check_bytes(struct guard *guard)
{
	size_t i;

	for (i = 0; i < guard->len; i++) {
		unsigned char c = (unsigned char)guard->text[i];

		if (c == '\r' && guard->text[i + 1] == '\n')
			guard->text[i] = ' ';
		else if ((c < ' ' && c != '\n' && c != '\t') || c == 0x7f) {
			guard_error(guard, guard->line, c == '\0' ? "a NUL byte: is this a text file?" : "a control character: is this a text file?");
			return false;
		}
		if (c == '\n')
			guard->line++;
	}
	guard->line = 1;
	return true;
}

char *
conf_text_guard(struct conf_draft *draft, const char *name, const char *text, size_t len, struct conf_seen *top)
{
	struct guard guard = { .draft = draft, .name = draft_file(draft, name), .len = len, .line = 1 };

	guard.text = draft_grow(NULL, len, 1);
	memcpy(guard.text, text, len);
	guard.text[len] = '\0';
	if (check_bytes(&guard))
		next_token(&guard);
	/* What is wrong before the first statement is in none that could be left out. */
	if (guard.broken)
		blank(&guard, 0, len);
	read_block(&guard, KEY_TOP, top);
	return guard.text;
}
