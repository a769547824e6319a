// Publish, help, reclaim and reap in a volatile region, as the code does them, access by access.
// For publish.pml and reclaim.pml, which say who does what and how many cells there are.
//
// Pins and guards are looked for where the model at hand has them: PINNER and GUARDER are the slots
// that ever write such a word, so that scans of words that never change cost no states.

byte tail = STATE(ACCEPTED, 0, 1);
byte head = STATE(OPEN, 0, 1);
byte owner[CELLS];
byte epoch_of[CELLS];  // header
byte value_of[CELLS];  // payload
byte pin = NONE;       // the pinner's
byte guard = NONE;     // the guarder's `help`
bool alive[N + 1];

// What the outside world knows; nothing in the protocol reads it.
byte accepted_value[6];
byte visible_value[6];
byte drafts = 1;
byte finished;
hidden byte P_order, P_agreement, P_snapshot, P_no_lost_update, P_no_leak, P_never_freed;

// Every word that is not needed any more is forgotten in the step that needed it last: equal values
// make equal states of different pasts.
inline mark_published(word) {
  STEP(o = owner[CELL(word)];
       if
       :: CELL_STATE(o) != DRAFTED -> o = 0
       :: else
       fi);
  if
  :: o != 0 ->
#ifndef PLANTED_MARK_WITHOUT_REREAD
    STEP(if
         :: tail != word -> o = 0
         :: else
         fi);
#endif
    if
    :: o != 0 -> STEP(CAS(owner[CELL(word)], o, WITH_STATE(o, PUBLISHED)); o = 0; ok = false)
    :: else
    fi
  :: else
  fi
}

inline help_head(word) {
  STEP(h = head;
       if
       :: EPOCH(h) + 1 != EPOCH(word) -> h = 0
       :: else
       fi);
  if
  :: h != 0 ->
    STEP(CAS(head, h, STATE(OPEN, CELL(word), EPOCH(word)));
         if
         :: ok ->
           CHECK(order, EPOCH(head) == EPOCH(h) + 1 && EPOCH(head) <= EPOCH(tail));
           CHECK(agreement, value_of[CELL(head)] == accepted_value[EPOCH(head)]);
           visible_value[EPOCH(head)] = value_of[CELL(head)]
         :: else
         fi;
         h = 0; ok = false)
  :: else
  fi
}

#ifdef PLANTED_PINS_IGNORED
#define PINNED(epoch) false
#else
#define PINNED(epoch) (p == (epoch))  // an epoch, or NONE, which is none
#endif
#ifdef PLANTED_GUARDS_IGNORED
#define GUARDED(cell) false
#else
#define GUARDED(cell) (g == (cell))
#endif

// Frees what is superseded and unprotected.
inline reclaim() {
#ifdef PLANTED_PINS_BEFORE_HEAD
  STEP(p = pin);
  STEP(h = EPOCH(head));
#else
  STEP(h = EPOCH(head));
#ifdef PINNER
  STEP(p = pin);
#endif
#endif
#ifdef GUARDER
  STEP(g = guard);
#endif
  do
  :: c < CELLS ->
    STEP(o = owner[c];
         if
         :: CELL_STATE(o) == PUBLISHED && epoch_of[c] < h && !PINNED(epoch_of[c]) && !GUARDED(c)
         :: else -> o = 0; c++
         fi);
    if
    :: o != 0 ->
      STEP(CAS(owner[c], o, FREED(o));
           CHECK(never_freed, !ok || (c != CELL(tail) && c != CELL(head)));
           o = 0; ok = false; c++)
    :: else
    fi
  :: else -> break
  od;
  c = 0; h = 0; p = NONE; g = NONE
}

// Takes from the dead, here from slots that are not taken again: see slots.pml. Testing the locks
// one by one finds what one look at all of them can find.
inline reap() {
  STEP(if
       :: !alive[0] -> s = 0
       :: !alive[1] -> s = 1
       :: !alive[2] -> s = 2
       :: else -> s = NONE
       fi);
  if
  :: s != NONE ->
    do
    :: c < CELLS ->
      STEP(o = owner[c];
           if
           :: CELL_STATE(o) == DRAFTED && DRAFTER(o) == s
           :: else -> o = 0; c++
           fi);
      if
      :: o != 0 ->
        // Not named by tail, and the word is the same later: it never was, nor will it be.
        STEP(r = tail);
        if
        :: CELL(r) == c -> mark_published(r)
        :: else -> STEP(CAS(owner[c], o, FREED(o)); o = 0; ok = false)
        fi;
        r = 0;
        c++
      :: else
      fi
    :: else -> break
    od;
#ifdef PINNER
    if
    :: s == PINNER -> STEP(pin = NONE)
    :: s == GUARDER -> STEP(guard = NONE)
    :: else
    fi
#endif
  :: else
  fi;
  c = 0; s = NONE
}

// Takes a free cell; else reclaims, else reaps and reclaims, else gives up: ResourceExhausted.
inline take_cell() {
  do
  :: // Load, then CAS from the exact word: as good as both at once, or not done.
    STEP(if
         :: CELL_STATE(owner[0]) == FREE -> mine = 0
         :: CELL_STATE(owner[0]) != FREE && CELL_STATE(owner[1]) == FREE -> mine = 1
         :: CELL_STATE(owner[0]) != FREE && CELL_STATE(owner[1]) != FREE &&
            CELL_STATE(owner[CELLS - 1]) == FREE -> mine = CELLS - 1
         :: else
         fi;
         if
         :: mine != NONE ->
           owner[mine] = OWNER(DRAFTED, me, USE(owner[mine]));
           drafted = owner[mine];
           value_of[mine] = drafts;
           drafts++
         :: else
         fi);
    if
    :: mine != NONE || tried == 2 -> break
    :: else ->
      if
      :: tried == 1 -> reap()
      :: else
      fi;
      reclaim();
      tried++
    fi
  od;
  tried = 0
}

// Steps 3 to 9 of publish. `expected` is NONE for a plain one. `ok` says how it went.
inline publish(expected) {
  do
  :: STEP(t = tail);
    if
    :: expected != NONE && expected != EPOCH(t) -> ok = false; break
    :: else
    fi;
    mark_published(t);
#ifndef PLANTED_APPEND_AHEAD
    help_head(t);
#endif
    STEP(epoch_of[mine] = EPOCH(t) + 1;  // a store to what is still this one's alone
         CAS(tail, t, STATE(ACCEPTED, mine, EPOCH(t) + 1));
         if
         :: ok -> accepted_value[EPOCH(tail)] = value_of[mine]; t = tail
         :: else
         fi);
    if
    :: ok ->
      STEP(CAS(owner[mine], drafted, WITH_STATE(drafted, PUBLISHED)); mine = NONE; drafted = 0);
      help_head(t);
      ok = true;
      break
    :: else
    fi
  od;
  t = 0
}

inline drop() {
  if
  :: mine != NONE -> STEP(CAS(owner[mine], drafted, FREED(drafted)); mine = NONE; drafted = 0; ok = false)
  :: else
  fi
}

// When everything is at rest, a newcomer helps, reaps and reclaims. Then every cell is free but
// head's.
inline take_stock() {
  STEP(t = tail);
  mark_published(t);
  help_head(t);
  CHECK(order, EPOCH(head) == EPOCH(tail));
  CHECK(agreement, value_of[CELL(head)] == accepted_value[EPOCH(head)]);
  reap();
  reclaim();
  do
  :: c < CELLS ->
    CHECK(no_leak, CELL_STATE(owner[c]) == FREE || c == CELL(head));
    c++
  :: else -> break
  od
}

#define LOCALS byte t, h, o, c, p = NONE, g = NONE, r, s = NONE, mine = NONE, drafted, tried; bool ok
#define FORGET t = 0; h = 0; o = 0; c = 0; p = NONE; g = NONE; r = 0; s = NONE; mine = NONE; drafted = 0; tried = 0; ok = false
