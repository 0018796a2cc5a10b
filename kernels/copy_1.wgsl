// Entries are copied word by word.
alias word = u32;
