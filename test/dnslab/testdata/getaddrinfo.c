/* Prints the addresses of names as getaddrinfo of the C library gives them: for each "name family" of the arguments a line
   "name family: addresses", or "name family: error" with the name of the error. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int family(const char *s) {
	return !strcmp(s, "4") ? AF_INET : !strcmp(s, "6") ? AF_INET6 : AF_UNSPEC;
}

int main(int argc, char **argv) {
	for (int i = 1; i + 1 < argc; i += 2) {
		struct addrinfo hints = {.ai_family = family(argv[i + 1]), .ai_socktype = SOCK_STREAM}, *list = NULL;
		int err = getaddrinfo(argv[i], "80", &hints, &list);
		printf("%s %s:", argv[i], argv[i + 1]);
		if (err) printf(" %s", err == EAI_NONAME ? "noname" : err == EAI_AGAIN ? "again" : err == EAI_FAIL ? "fail" : err == -5 ? "nodata" : "other");
		for (struct addrinfo *a = list; a; a = a->ai_next) {
			char text[INET6_ADDRSTRLEN];
			void *addr = a->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)a->ai_addr)->sin_addr
			                                     : (void *)&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
			printf(" %s", inet_ntop(a->ai_family, addr, text, sizeof text));
		}
		printf("\n");
		if (list) freeaddrinfo(list);
	}
	return 0;
}
