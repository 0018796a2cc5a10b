// Matrix units as Dawn offers them to a subgroup (chromium_experimental_subgroup_matrix). Offsets and strides count elements.
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

// 16 rows of X by 16 k.
fn load_left(at: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&x_tile, at, LINE * 4u); }

// 16 k by 16 columns of Y, which are rows of W.
fn load_right(at: u32) -> Right { return subgroupMatrixLoad<Right, col_major>(&w_tile, at, LINE * 4u); }

fn multiply_add(rows: Left, columns: Right, sum: Result, lane: u32) -> Result { return subgroupMatrixMultiplyAccumulate(rows, columns, sum); }

fn store_result(at: u32, sum: Result, lane: u32) { subgroupMatrixStore<row_major>(&results, at, sum, 16u); }
