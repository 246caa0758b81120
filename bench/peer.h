/* Peers that are programs of their own: a child process that first says "ready NAME" or
   "skip REASON", and then answers each line it is asked with a line of numbers. After bench.h. */
#ifndef BENCH_PEER_H_INCLUDED
#define BENCH_PEER_H_INCLUDED

#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>

typedef struct peer {
    int threads, tuned;         // how it is started
    pid_t pid;                  // 0: there is none
    FILE *ask, *answer;
} peer;

/* Starts bench/peers/SCRIPT with p's options and those given (NULL at the end of at most eight) and
   says what it found. It measures by the clock that this bench uses. 0: there is no such peer. */
static inline int peer_start(peer *p, const char *script, const char *const *options)
{
    const char *python = getenv("PYTHON") ? getenv("PYTHON") : "/usr/bin/python3";
    int to[2], from[2], n = 5;
    char path[64], threads[16], line[256];
    const char *argv[16] = {python, "-B", path, "--threads", threads};
    snprintf(path, sizeof path, "bench/peers/%s", script);
    snprintf(threads, sizeof threads, "%d", p->threads);
    if (p->tuned)
        argv[n++] = "--tuned";
    if (bench_clock == CLOCK_MONOTONIC)
        argv[n++] = "--wall";
    while (*options && n < 15)
        argv[n++] = *options++;
    snprintf(line, sizeof line, "skip PyTorch (%s with its script did not start)", python);
    fflush(stdout);
    signal(SIGPIPE, SIG_IGN);           // a peer that ended is told by fprintf's result
    if (pipe(to) || pipe(from) || (p->pid = fork()) < 0) {
        p->pid = 0;
        return printf("%s\n", line), 0;
    }
    if (p->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        execv(python, (char *const *)argv);
        _exit(127);
    }
    close(to[0]), close(from[1]);
    fcntl(to[1], F_SETFD, FD_CLOEXEC);      // or the next peer keeps this one's pipe open
    fcntl(from[0], F_SETFD, FD_CLOEXEC);
    p->ask = fdopen(to[1], "w");
    p->answer = fdopen(from[0], "r");
    if (p->ask && p->answer && fgets(line, sizeof line, p->answer))
        line[strcspn(line, "\n")] = 0;
    int ready = strncmp(line, "ready ", 6) == 0;
    printf("%s\n", ready ? line + 6 : line);
    return ready;
}

// Asks a question and reads n numbers. 1: it died, which is an error of the bench.
static inline int peer_ask(peer *p, const char *question, double *numbers, int n)
{
    int got = 0;
    if (fprintf(p->ask, "%s\n", question) > 0 && fflush(p->ask) == 0)
        while (got < n && fscanf(p->answer, "%lf", &numbers[got]) == 1)
            got++;
    if (got == n)
        return 0;
    fprintf(stderr, "the peer stopped at: %s\n", question);
    return 1;
}

// Asks for results: the answer is how many, and after the line's end so many floats as bytes.
static inline int peer_values(peer *p, const char *question, float *x, size_t n)
{
    double count;
    if (peer_ask(p, question, &count, 1))
        return 1;
    if (count == (double)n && fgetc(p->answer) == '\n' && fread(x, sizeof *x, n, p->answer) == n)
        return 0;
    fprintf(stderr, "the peer has other sizes: %s\n", question);
    return 1;
}

static inline void peer_stop(peer *p)
{
    if (p->pid == 0)
        return;
    if (p->ask)
        fclose(p->ask);         // the end of its input is the end of it
    if (p->answer)
        fclose(p->answer);
    waitpid(p->pid, NULL, 0);
    p->pid = 0;
}

#endif /* BENCH_PEER_H_INCLUDED */
