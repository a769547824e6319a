/* Prints what a program that was compiled with c.h relies on: sizes, places, numbers. abi.sh
 * compares. */
#include <stddef.h>
#include <stdio.h>

#include "epoch/c.h"

#define STRUCT(type) printf("struct %s: %zu bytes\n", #type, sizeof(type))
#define MEMBER(type, member) \
  printf("  %3zu +%zu %s\n", offsetof(type, member), sizeof(((type*)0)->member), #member)
#define NUMBER(name) printf("%s = %lld\n", #name, (long long)(name))

int main(void) {
#include "abi_of_header.inc"
  return 0;
}
