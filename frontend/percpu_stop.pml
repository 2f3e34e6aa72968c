/* percpu_stop.pml -- a model of the stop protocol of percpu.c, for Spin.
 *
 * WHAT IT MODELS. Two threads, two objects (tokens), the slab of one CPU with two
 *   slots, and a remote actor. A thread is on that CPU or elsewhere, waiting or
 *   on another CPU, whose slab is another (it would add states, and nothing that
 *   can go wrong). It pops and pushes by sections, one step for each instruction
 *   that reads or writes what others share: arm, load id, load base, load top,
 *   slot, commit. Before each step it may lose the CPU to the other thread,
 *   which aborts its section, as the kernel does. The actor stops the id,
 *   fences, takes all objects, gives the slab back; or gives it back untouched,
 *   as when the kernel refuses the fence.
 *
 *   Weak memory: what a section stores goes to a buffer of its CPU, which that
 *   CPU reads through, and leaves it at any later time, in any order. A change
 *   of threads empties it. The actor's stores are buffered as well; its
 *   store-release of the base goes last. (The loads of a section depend on each
 *   other by address, and interrupts are precise: they are made in order.)
 *
 *   The fence empties the CPU's buffer and aborts the section that runs there.
 *
 * WHAT MUST HOLD, in every order of steps, without a bound on their number:
 *   no token in two hands   a pop or a drain gets only tokens that are in the
 *                           slab;
 *   none lost               when the id is stopped and fenced, its slab has each
 *                           token that was pushed and not popped.
 *
 * With one of these the model must fail (percpu_stop_model_test.sh):
 *   NO_FENCE     no fence
 *   NO_ABORT     a fence that orders memory and aborts nothing (membarrier
 *                without RSEQ)
 *   NO_RELEASE   the base may become visible before the drained header
 *   NO_RESTART   a section survives the loss of its CPU
 */
#define THREADS 2
#define SLOTS 2
#define TOKENS 2
#define NONE 7 /* no id, no token, nothing in the buffer */
#define ID 0   /* of the CPU */

/* Who has a token: a thread, the slab, or the tiers below. */
#define IN_SLAB THREADS
#define BELOW (THREADS + 1)

mtype = {outside, arm, load_id, load_base, load_top, slot, commit};

/* Memory, and what the CPU has stored that others do not see yet. */
bool is_stopped; /* base[ID] is the dummy */
byte top;        /* how many objects: the header */
byte slots[SLOTS];
byte late_top = NONE;
byte late_slots[SLOTS];

/* The actor's stores on their way: to base[ID], and to the header. */
byte late_stop = NONE;
byte late_drained = NONE;

/* Threads: whether on the CPU, where in the section, and its registers. */
bool on[THREADS];
mtype at[THREADS];
byte id[THREADS];
byte seen_top[THREADS];
byte seen_token[THREADS];
byte hand[THREADS]; /* the token that it has */

byte owner[TOKENS]; /* what is true, not what is seen */

#define PUSHES(t) (hand[t] != NONE) /* A thread has one token at most. */
#define MAY_SEE_TOP (late_top != NONE -> late_top : top)
#define IN_SECTION(t) (at[t] != outside && at[t] != arm)
#ifdef NO_RESTART
#define GOES_ON(t) (on[t] || IN_SECTION(t))
#else
#define GOES_ON(t) on[t]
#endif

#ifdef NO_RELEASE
#define RELEASED true
#else
#define RELEASED (late_drained == NONE)
#endif

inline go_to(t, where) {
  at[t] = where;
  id[t] = NONE;
  seen_top[t] = 0;
  seen_token[t] = NONE
}

inline flush_top() {
  top = late_top;
  late_top = NONE
}

inline flush_slot(i) {
  slots[i] = late_slots[i];
  late_slots[i] = NONE
}

inline flush_cpu() {
  if
  :: late_top != NONE -> flush_top()
  :: else
  fi;
  if
  :: late_slots[0] != NONE -> flush_slot(0)
  :: else
  fi;
  if
  :: late_slots[1] != NONE -> flush_slot(1)
  :: else
  fi
}

inline lose_cpu(t) {
#ifndef NO_RESTART
  if
  :: IN_SECTION(t) -> go_to(t, arm)
  :: else
  fi;
#endif
  flush_cpu();
  on[t] = false
}

inline read_slot(t) {
  if
  :: PUSHES(t) -> late_slots[seen_top[t]] = hand[t]
  :: else ->
     seen_token[t] =
         (late_slots[seen_top[t] - 1] != NONE -> late_slots[seen_top[t] - 1]
                                              : slots[seen_top[t] - 1])
  fi;
  at[t] = commit
}

inline do_commit(t) {
  if
  :: PUSHES(t) ->
     late_top = seen_top[t] + 1;
     owner[hand[t]] = IN_SLAB;
     hand[t] = NONE
  :: else ->
     late_top = seen_top[t] - 1;
     assert(seen_token[t] != NONE);
     assert(owner[seen_token[t]] == IN_SLAB); /* not in two hands */
     owner[seen_token[t]] = t;
     hand[t] = seen_token[t]
  fi;
  go_to(t, outside)
}

proctype thread(byte t) {
  do
  /* The scheduler. */
  :: d_step { on[t] -> lose_cpu(t) }
  :: d_step { !on[t] && !on[1 - t] -> on[t] = true }

  /* Between sections: an exchange with the tiers below (which token does not
   * matter), or a pop or push. */
  :: d_step { at[t] == outside && PUSHES(t) ->
       owner[hand[t]] = BELOW; hand[t] = NONE }
  :: d_step { at[t] == outside && !PUSHES(t) &&
       owner[0] == BELOW -> owner[0] = t; hand[t] = 0 }
  :: d_step { at[t] == outside && !PUSHES(t) &&
       owner[0] != BELOW && owner[1] == BELOW -> owner[1] = t; hand[t] = 1 }
  :: d_step { on[t] && at[t] == outside -> at[t] = arm }

  /* The section. */
  :: d_step { on[t] && at[t] == arm -> at[t] = load_id }
  :: d_step { GOES_ON(t) && at[t] == load_id ->
       id[t] = ID; at[t] = load_base }
  :: d_step { GOES_ON(t) && at[t] == load_base ->
       if /* the dummy: empty, and full */
       :: is_stopped -> go_to(t, outside)
       :: else -> at[t] = load_top
       fi }
  :: d_step { GOES_ON(t) && at[t] == load_top ->
       seen_top[t] = MAY_SEE_TOP;
       if
       :: seen_top[t] == (PUSHES(t) -> SLOTS : 0) -> go_to(t, outside)
       :: else -> at[t] = slot
       fi }
  :: d_step { GOES_ON(t) && at[t] == slot -> read_slot(t) }
  :: d_step { GOES_ON(t) && at[t] == commit -> do_commit(t) }
  od
}

/* Stores reach memory, in any order but that of the release. */
proctype memory() {
  do
  :: d_step { late_top != NONE -> flush_top() }
  :: d_step { late_slots[0] != NONE -> flush_slot(0) }
  :: d_step { late_slots[1] != NONE -> flush_slot(1) }
  :: d_step { late_drained != NONE -> top = late_drained; late_drained = NONE }
  :: d_step { late_stop != NONE && RELEASED ->
       is_stopped = late_stop; late_stop = NONE }
  od
}

inline interrupt(t) {
  if
  :: on[t] && IN_SECTION(t) -> go_to(t, arm)
  :: else
  fi
}

inline fence() {
  d_step {
    flush_cpu();
#ifndef NO_ABORT
    interrupt(0);
    interrupt(1)
#endif
  }
}

inline drain() {
  d_step { /* none lost */
    n = (owner[0] == IN_SLAB) + (owner[1] == IN_SLAB);
    assert(top == n)
  };
  do
  :: d_step { n > 0 ->
       n--;
       token = slots[n];
       assert(token != NONE);
       assert(owner[token] == IN_SLAB); /* not in two hands */
       owner[token] = BELOW;
       token = 0
     }
  :: n == 0 -> break
  od;
  late_drained = 0
}

proctype actor() {
  byte n, token;
  do
  :: late_stop = 1; /* stop */
     if
     ::
#ifndef NO_FENCE
        late_stop == NONE; /* The fence is one for the actor too. */
        fence();
#endif
        drain()
     :: true /* The kernel refused the fence. */
     fi;
     late_stop == NONE; /* Stores to one place keep their order. */
     late_stop = 0;     /* start */
     late_stop == NONE && late_drained == NONE
  od
}

init {
  d_step {
    go_to(0, outside);
    go_to(1, outside);
    hand[0] = NONE;
    hand[1] = NONE;
    slots[0] = NONE;
    slots[1] = NONE;
    late_slots[0] = NONE;
    late_slots[1] = NONE;
    owner[0] = BELOW;
    owner[1] = BELOW
  };
  atomic {
    run thread(0);
    run thread(1);
    run memory();
    run actor()
  }
}
