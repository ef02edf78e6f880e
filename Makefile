# emu: a PC in one C file. See README.md.
#
#   make          emu, from the one file that we ship (emu.c is made anew when src/ changed)
#   make dev      build/dev/emu, from the parts, for quick edits
#   make check    the tests; the last line is "N passed, N failed"
#   make run      a small Linux in the emulator, ssh on port 2222
#   make bench    speed next to qemu-system-x86_64
#   make install  emu, emu.h, emu.c and the man page below PREFIX

CC ?= cc
CFLAGS ?= -O2
PREFIX ?= /usr/local
WARN = -std=c99 -pedantic -Wall -Wextra

PARTS := $(shell cat src/parts.txt)
SOURCES := $(wildcard $(addprefix src/,$(PARTS)))
DEVDIR ?= build/dev
HEADERS := emu.h $(filter %.h,$(SOURCES))
OBJECTS := $(patsubst src/%.c,$(DEVDIR)/%.o,$(filter %.c,$(SOURCES)))
DEV_CFLAGS ?= -O1 -g

all: emu

emu: emu.c emu.h
	$(CC) $(WARN) $(CFLAGS) emu.c -o $@ $(LDFLAGS)

emu.c: $(SOURCES) src/parts.txt src/tools/amalgamate.sh
	sh src/tools/amalgamate.sh > $@.new
	mv $@.new $@

dev: $(DEVDIR)/emu

$(DEVDIR)/emu: $(OBJECTS)
	$(CC) $(DEV_CFLAGS) $(OBJECTS) -o $@ $(LDFLAGS)

# everything but main(): what the tests of the parts are linked with
$(DEVDIR)/libemu.a: $(filter-out $(DEVDIR)/front/main.o,$(OBJECTS))
	rm -f $@
	ar rcs $@ $^

$(DEVDIR)/%.o: src/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(WARN) $(DEV_CFLAGS) $(DEV_EXTRA) -c $< -o $@

check: emu
	sh tests/run.sh

check-long: emu
	LONG=1 sh tests/run.sh

run: emu images/linux.img
	./emu -nographic -net user,hostfwd=tcp::2222-:22 images/linux.img

images/linux.img: images/linux.sh
	sh images/linux.sh $@

bench: emu
	sh tests/bench/run.sh

install: emu
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/src $(DESTDIR)$(PREFIX)/share/man/man1
	cp emu $(DESTDIR)$(PREFIX)/bin/emu
	cp emu.h $(DESTDIR)$(PREFIX)/include/emu.h
	cp emu.c $(DESTDIR)$(PREFIX)/src/emu.c
	cp src/emu.1 $(DESTDIR)$(PREFIX)/share/man/man1/emu.1

clean:
	rm -rf build emu emu.c.new

.PHONY: all dev check check-long run bench install clean
