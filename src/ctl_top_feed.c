/* SPDX-License-Identifier: ISC */
/*
 * Rounds of questions for `nsproxyctl top`.
 * Runs in: ctl
 *
 * Theory of operation: a round asks one question after the other on one connection; when the last is answered, the rows become what is shown, so the
 * screen never mixes two rounds. A connection that ends between rounds was idle for too long, or its reporter was replaced: the next round opens another
 * one. Only when that fails, or an answer breaks off or does not come, there is a problem to show, and the next attempt is a second away.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_top_feed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define RETRY_EVERY (500 * NS_PER_MS)
#define PATIENCE (5000 * NS_PER_MS)	/* for one round */
#define MESSAGES_A_TURN 64u		/* then the keys have their turn */
#define ROWS_MOST 200000u		/* more is nothing to look at, and an answer must end */

static const enum ctl_verb questions[] = { CTL_STATUS, CTL_SERVICES, CTL_WORKERS, CTL_CONNECTIONS };
#define QUESTIONS (sizeof(questions) / sizeof(questions[0]))

enum ctl_exit
top_feed_open(struct top_feed *feed, const char *path, uint64_t interval)
{
	enum ctl_exit code;

	*feed = (struct top_feed){ .path = path, .step = QUESTIONS, .interval = interval };
	code = ctl_open(&feed->client, path, (int)(PATIENCE / NS_PER_MS));
	if (code != CTL_EXIT_DONE)
		(void)snprintf(feed->problem, sizeof(feed->problem), "%s", feed->client.text);
	return code;
}

void
top_feed_close(struct top_feed *feed)
{
	ctl_close(&feed->client);
	ctl_answer_free(&feed->answer);
	feed->step = QUESTIONS;
	feed->answered = false;
}

int
top_feed_fd(const struct top_feed *feed)
{
	return feed->client.chan.fd;
}

void
top_feed_hurry(struct top_feed *feed)
{
	if (feed->step == QUESTIONS)
		feed->due = 0;
}

static bool
failed(struct top_feed *feed, uint64_t now, const char *why)
{
	(void)snprintf(feed->problem, sizeof(feed->problem), "%s", why);
	top_feed_close(feed);
	feed->due = now + RETRY_EVERY;
	return true;
}

static bool
broke_off(struct top_feed *feed, uint64_t now)
{
	char text[128];

	if (errno == EPROTO)
		(void)snprintf(text, sizeof(text), "nsproxy sent what makes no sense: %s", feed->client.chan.wrong);
	else
		(void)snprintf(text, sizeof(text), "nsproxy has hung up");
	return failed(feed, now, text);
}

static bool
ask(struct top_feed *feed, uint64_t now)
{
	struct msg_ask question = ctl_ask_all(questions[feed->step]);

	feed->client.answer = &feed->answer;
	feed->answer.ended = false;
	if (chan_send(&feed->client.chan, MSG_ASK, &question, 1, NULL, 0) == 0)
		return false;
	/* Whoever hung up while nobody asked may be asked again by another connection. */
	if (errno == EPIPE && feed->step == 0 && feed->answered) {
		top_feed_close(feed);
		feed->due = now;
		return false;
	}
	return failed(feed, now, errno == EPIPE ? "nsproxy has hung up" : strerror(errno));
}

static bool
begin_round(struct top_feed *feed, uint64_t now)
{
	/* The keys do not wait for somebody who takes no connections. */
	if (feed->client.chan.fd == -1 && ctl_open(&feed->client, feed->path, 0) != CTL_EXIT_DONE)
		return failed(feed, now, feed->client.text);
	feed->step = 0;
	feed->due = now + PATIENCE;
	return ask(feed, now);
}

static bool
end_round(struct top_feed *feed, struct top_data *data, uint64_t now)
{
	feed->due = now + feed->interval;
	if (!top_data_take(data, &feed->answer))
		return failed(feed, now, "out of memory");
	ctl_answer_free(&feed->answer);
	feed->answered = true;
	feed->problem[0] = '\0';
	return true;
}

/* An answer has ended. */
static bool
next_question(struct top_feed *feed, struct top_data *data, uint64_t now)
{
	if (feed->answer.end.code != CTL_DONE) {
		char text[CTL_TEXT_MAX];

		(void)snprintf(text, sizeof(text), "%s", feed->answer.end.text[0] != '\0' ? feed->answer.end.text : "refused");
		return failed(feed, now, text);
	}
	if (++feed->step == QUESTIONS)
		return end_round(feed, data, now);
	return ask(feed, now);
}

static bool
too_much(const struct ctl_answer *answer)
{
	return answer->n_services > ROWS_MOST || answer->n_routes > ROWS_MOST || answer->n_workers > ROWS_MOST || answer->n_conns > ROWS_MOST ||
	    answer->n_processes > 0 || answer->text_size > 0;
}

static bool
receive(struct top_feed *feed, struct top_data *data, uint64_t now)
{
	bool news = false;

	for (unsigned i = 0; i < MESSAGES_A_TURN && feed->client.chan.fd != -1; i++) {
		bool asked = feed->step < QUESTIONS;
		int r = chan_recv(&feed->client.chan);

		if (r == 0)
			break;
		if (r == -1 && !asked && errno == EPIPE) {
			top_feed_close(feed);
			break;
		}
		if (r == -1)
			return broke_off(feed, now);
		if (!asked)
			return failed(feed, now, "nsproxy answered what nobody asked");
		if (too_much(&feed->answer))
			return failed(feed, now, "nsproxy's answer does not end");
		if (feed->answer.ended)
			news |= next_question(feed, data, now);
	}
	return news;
}

bool
top_feed_turn(struct top_feed *feed, struct top_data *data, uint64_t now)
{
	bool news = receive(feed, data, now);

	if (now < feed->due)
		return news;
	if (feed->step < QUESTIONS)
		return failed(feed, now, "nsproxy does not answer");
	if (feed->paused)
		return news;
	return begin_round(feed, now) || news;
}
