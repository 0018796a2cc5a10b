// Entries are copied four words at a time: every entry is that many.
alias word = vec4u;
